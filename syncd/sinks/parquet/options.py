"""Options of the Parquet sink."""

from __future__ import annotations

from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field, field_validator


class ParquetOptions(BaseModel):
    """Where the files are, and when they are merged."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    path: Path = Field(
        description="Absolute path of a folder on a local disk; made when absent. A table's files are in "
        "`<path>/<database>/<table>/`."
    )
    merge_files: int = Field(
        default=16,
        ge=2,
        description="Files of about one size are merged into one when there are as many: each write makes a file.",
    )
    expire_rows: int = Field(
        default=100_000,
        ge=1,
        description="Tombstones that nobody needs are removed once there are as many: each removal rewrites the table.",
    )
    page_rows: int = Field(
        default=65_536, ge=1, description="Rows of a row group, and rows of each file that a scan or merge holds."
    )

    @field_validator("path")
    @classmethod
    def _absolute(cls, path: Path) -> Path:
        if not path.is_absolute():
            raise ValueError(f"{path}: an absolute path is wanted, for example /var/lib/copy")
        return path
