"""Options of the embedded queue."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

MIB = 1 << 20
GIB = 1 << 30
_CENTURY = 24.0 * 365 * 100  # hours


class Options(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)

    path: str = Field(
        default="queue",
        description="Directory of the queue's files, of its own. A relative path is below the daemon's directory for "
        "this queue. It is made if absent; the directory above it must be there.",
    )
    sync: Literal["FULL", "NORMAL"] = Field(
        default="FULL",
        description="FULL: what was acknowledged survives a power loss. NORMAL: a power loss may take back the last "
        "acknowledged steps (never a part of one); a killed process still loses nothing.",
    )
    max_bytes: int = Field(
        default=16 * GIB,
        ge=MIB,
        description="Disk the queue may hold before capture waits for the sinks. Offsets, state, retries and dead "
        "letters are still written above it.",
    )
    keep_hours: float = Field(
        default=24.0,
        ge=0,
        le=_CENTURY,
        description="How long messages that all sinks have finished, and their hops, stay for `trace`.",
    )
    keep_bytes: int = Field(
        default=64 * MIB,
        ge=0,
        description="How many bytes of finished messages stay for `trace` at most; the oldest go first.",
    )
    segment_bytes: int = Field(
        default=32 * MIB,
        ge=64 * 1024,
        le=GIB,
        description="Size of a body file, the step in which disk is given back.",
    )
    wal_bytes: int = Field(
        default=64 * MIB,
        ge=MIB,
        description="Size of SQLite's write-ahead log at which capture waits. It grows that far only while a process "
        "that reads the queue is frozen; the error names that process.",
    )
    reserve_bytes: int = Field(
        default=16 * MIB,
        ge=0,
        le=GIB,
        description="Disk held back by a file: when the disk is full it is given up, so that offsets and state can "
        "still be written, and capture waits until it is there again.",
    )
    lock_seconds: float = Field(
        default=30.0,
        gt=0,
        description="How long a write waits for another process's write before it answers with a TransientError that "
        "names the process.",
    )

    @model_validator(mode="after")
    def _sizes_fit(self) -> Options:
        if self.keep_bytes > self.max_bytes // 2:
            raise ValueError(f"keep_bytes ({self.keep_bytes}) is more than half of max_bytes ({self.max_bytes})")
        return self
