"""A sink that only has options."""

from pydantic import BaseModel, ConfigDict, Field, SecretStr


class FakeSink:
    class Options(BaseModel):
        model_config = ConfigDict(extra="forbid")

        url: str = Field(description="Where the server is.")
        password: SecretStr | None = Field(default=None, description="The user's password.")
        current_views: bool = Field(default=False, description="Make views.")

    class TableOptions(BaseModel):
        model_config = ConfigDict(extra="forbid")

        partition_by: str = Field(default="", description="An expression over key columns.")

    def prepare(self) -> None: ...
