"""Options of the ClickHouse sink."""

from __future__ import annotations

from typing import Literal
from urllib.parse import SplitResult, unquote, urlsplit

from pydantic import BaseModel, ConfigDict, Field, SecretStr, field_validator

SCHEMES = {"http": 8123, "https": 8443, "chdb": 0}


class ClickHouseTableOptions(BaseModel):
    """What may be said of one table (`tables: ... sinks: NAME:`)."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    partition_by: str = Field(
        default="", description="PARTITION BY of the table: an expression over key columns and no others."
    )


class ClickHouseOptions(BaseModel):
    """Where the target is, and how its tables are made."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    url: str = Field(
        description="`http://host:8123/db` or `https://host:8443/db`: a server. `chdb:///var/lib/copy`: the embedded "
        "engine, with its files in that folder. Tables go into the database of their name at the source, or of `to`; "
        "`db` is for tables that have none."
    )
    user: str = Field(default="", description="User of the server; `user@` in the url does the same. Else `default`.")
    password: SecretStr = Field(default=SecretStr(""), description="Password of the user.")
    tls: bool = Field(default=False, description="Speak TLS, also where the url says http.")
    verify: bool = Field(default=True, description="Check the server's certificate.")
    connect_timeout: int = Field(default=10, ge=1, description="Whole seconds to wait for a connection.")
    write_timeout: int = Field(default=120, ge=1, description="Whole seconds to wait for the answer to one statement.")
    current_views: bool = Field(
        default=False,
        description="Make a view `<table>_current` beside each table: the live rows, without the columns of syncd.",
    )
    fsync: bool = Field(
        default=True,
        description="Tables are made so that an insert is on the disk when it returns (fsync_after_insert). "
        "Off: a power cut of the target may take the last inserts with it.",
    )
    codecs: Literal["auto", "none"] = Field(
        default="auto", description="auto: delta codecs on integers, dates and times of the key and on the versions."
    )
    low_cardinality: Literal["auto", "never"] = Field(
        default="auto", description="auto: ENUM columns become LowCardinality(String); never: String."
    )
    expire_rows: int = Field(
        default=100_000,
        ge=1,
        description="Tombstones that nobody needs are removed once there are as many: each removal rewrites parts.",
    )
    page_rows: int = Field(default=65_536, ge=1, description="Rows that a scan holds in memory at a time.")
    settings: dict[str, str | int | float] = Field(
        default_factory=dict, description="ClickHouse settings for every statement, for example max_threads."
    )

    @field_validator("url")
    @classmethod
    def _known(cls, url: str) -> str:
        parts = urlsplit(url)
        if parts.scheme not in SCHEMES:
            raise ValueError(f"{url}: begins with none of {', '.join(f'{name}://' for name in SCHEMES)}")
        if parts.scheme == "chdb" and (parts.netloc or not parts.path.strip("/")):
            raise ValueError(f"{url}: the embedded engine wants an absolute path: chdb:///var/lib/copy")
        if parts.scheme != "chdb" and not parts.hostname:
            raise ValueError(f"{url}: names no host")
        try:
            _ = parts.port
        except ValueError as error:
            raise ValueError(f"{url}: its port is no number up to 65535, as in http://host:8123/db") from error
        if parts.password:
            raise ValueError("the url holds a password: give it as `password`")
        return url

    @property
    def parts(self) -> SplitResult:
        return urlsplit(self.url)

    @property
    def target(self) -> str:
        """The url without what may change while the tables behind it stay the same: scheme and user."""
        if self.embedded:
            return f"chdb://{self.path}"
        return f"{self.parts.hostname}:{self.parts.port or SCHEMES[self.parts.scheme]}/{self.database}"

    @property
    def embedded(self) -> bool:
        return self.parts.scheme == "chdb"

    @property
    def path(self) -> str:
        """Folder of the embedded engine."""
        return unquote(self.parts.path)

    @property
    def username(self) -> str:
        return self.user or unquote(self.parts.username or "") or "default"

    @property
    def database(self) -> str:
        """Database of tables whose target names none."""
        return "default" if self.embedded else unquote(self.parts.path.strip("/")) or "default"
