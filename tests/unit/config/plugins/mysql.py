"""A source that only has options."""

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, SecretStr, field_validator


class Tls(BaseModel):
    model_config = ConfigDict(extra="forbid")

    mode: Literal["off", "required"] = "off"


class FakeSource:
    class Options(BaseModel):
        model_config = ConfigDict(extra="forbid")

        url: str = Field(description="Where the server is.")
        password: SecretStr | None = Field(default=None, description="The user's password.")
        port: int = Field(default=3306, ge=1, le=65535, description="The server's port.")
        tls: Tls | None = Field(default=None, description="Encryption.")

        @field_validator("url")
        @classmethod
        def _mysql(cls, value: str) -> str:
            if not value.startswith("mysql://"):
                raise ValueError(f"{value} does not begin with mysql://")
            return value

    def stream(self) -> None: ...
