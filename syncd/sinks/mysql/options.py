"""Options of the sinks `mysql` and `oceanbase`."""

from __future__ import annotations

from typing import ClassVar, Literal
from urllib.parse import unquote, urlsplit

from pydantic import BaseModel, ConfigDict, Field, SecretStr, field_validator

from syncd.drivers.mysql.address import Address, Tls, address


class MySQLTableOptions(BaseModel):
    """What may be said of one table (`tables: ... sinks: NAME:`)."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    partitions: bool = Field(default=False, description="Make the table with the source's PARTITION BY clause.")
    expressions: Literal["keep", "drop"] = Field(
        default="keep",
        description="keep: generated columns and computed defaults are made with the source's own expressions. drop: "
        "generated columns become plain ones that hold the source's values, computed defaults are left out.",
    )


class MySQLOptions(BaseModel):
    """Where the target is, and how it is written."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    schemes: ClassVar[tuple[str, ...]] = ("mysql", "mariadb")
    port: ClassVar[int] = 3306

    url: str = Field(
        description="The server as `mysql://user@host:3306/db` or `mariadb://...`, without a password. Tables go into "
        "the database of their name at the source, or of `to`; `db` is for tables that have none."
    )
    password: SecretStr | None = Field(default=None, description="The user's password; none when left out.")
    tls: Tls | None = Field(
        default=None,
        description="Encryption. Left out: none on this machine's own addresses, elsewhere encrypted where the server "
        "offers it, its certificate not checked.",
    )
    connect_timeout: float = Field(default=10.0, gt=0, le=600, description="Seconds that the server may take to greet.")
    write_timeout: float = Field(
        default=120.0, gt=0, le=86400, description="Seconds to wait for the answer to one statement."
    )
    connections: int = Field(
        default=4, ge=1, le=256, description="How many lanes are written at once, each over a connection of its own."
    )
    statement_rows: int = Field(default=2000, ge=1, description="Rows in one statement.")
    statement_bytes: int = Field(
        default=4 << 20, ge=1024, description="Bytes in one statement; never more than the server's max_allowed_packet."
    )

    @field_validator("url")
    @classmethod
    def _url(cls, value: str) -> str:
        address(value, cls.schemes, cls.port, database=True)
        return value

    @property
    def address(self) -> Address:
        """The parts of `url`."""
        return address(self.url, self.schemes, self.port, database=True)

    @property
    def database(self) -> str:
        """Database of tables whose target names none."""
        return unquote(urlsplit(self.url).path.strip("/")) or "syncd"


class OceanBaseOptions(MySQLOptions):
    """Where the target is, and how it is written."""

    schemes: ClassVar[tuple[str, ...]] = ("oceanbase", "mysql")
    port: ClassVar[int] = 2881

    url: str = Field(
        description="The server, or its proxy, as `oceanbase://user@host:2881/db` or `mysql://...`, without a "
        "password; of a cluster the user is `user@tenant#cluster`, written `user%40tenant%23cluster`. Tables go into "
        "the database of their name at the source, or of `to`; `db` is for tables that have none."
    )
