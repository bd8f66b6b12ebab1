"""A queue that only has options."""

from pydantic import BaseModel, ConfigDict, Field


class FakeQueue:
    class Options(BaseModel):
        model_config = ConfigDict(extra="forbid")

        limit: int = Field(default=1 << 30, description="Bytes that it may hold.")

    def publish(self) -> None: ...
