"""What a job file may say of a MySQL or MariaDB source."""

from __future__ import annotations

import hashlib
import re
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, SecretStr, field_validator

from syncd.drivers.mysql.address import Address, Tls, address

# Ids below are what people give to real servers; the protocol's field is 32 bits.
_FIRST_SERVER_ID = 1 << 31
_SERVER_IDS = (1 << 30) - 1


SCHEMES = ("mysql", "mariadb")


class Options(BaseModel):
    """Options of the source `mysql`: MySQL 8.0 to 9.x, and MariaDB from 10.5."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    url: str = Field(
        default="mysql://root@127.0.0.1:3306/",
        description="The server as `mysql://user@host:port/`, without a password.",
    )
    password: SecretStr | None = Field(default=None, description="The user's password; none when left out.")
    tls: Tls | None = Field(
        default=None,
        description="Encryption. Left out: none on this machine's own addresses, elsewhere encrypted where the server "
        "offers it, its certificate not checked.",
    )
    server_id: int | None = Field(
        default=None,
        ge=1,
        le=(1 << 32) - 1,
        description="The replica id under which the job reads the log; no other replica of the server may have it. "
        "Left out: made from the job's name, at or above 2147483648.",
    )
    heartbeat: float = Field(
        default=1.0,
        ge=0.1,
        le=60,
        description="Seconds of silence after which the server tells that nothing has happened.",
    )
    connect_timeout: float = Field(default=10.0, gt=0, le=600, description="Seconds that the server may take to greet.")
    read_timeout: float = Field(
        default=300.0,
        gt=0,
        le=86400,
        description="Seconds without a byte from the server, while an answer is due, after which it counts as lost.",
    )
    gtid: bool | Literal["auto"] = Field(
        default="auto",
        description="Whether positions follow global transaction ids, and so survive a failover. `auto`: where the "
        "server has them switched on.",
    )
    head_timeout: float = Field(
        default=30.0,
        gt=0,
        le=3600,
        description="Seconds that finding the log's low watermark may wait for transactions that are being committed.",
    )
    marker_table: str = Field(
        default="",
        pattern=r"^([^.`]+\.[^.`]+)?$",
        description="`database.table` of syncd's own at the source, to find the low watermark of a MySQL server "
        "without global transaction ids; the user needs CREATE, INSERT and DELETE on it. Empty: not used.",
    )
    replicas: tuple[str, ...] = Field(
        default=(),
        description="Replicas as `mysql://user@host:port/` (same password and TLS) whose lag the throttle "
        "`replica_lag_s` watches. None: the source's own, where it is a replica.",
    )

    shadow_tables: tuple[str, ...] = Field(
        default=("_(.+)_gho", "_+(.+)_new"),
        description="Regular expressions for the shadow tables of online-schema-change tools (gh-ost, "
        "pt-online-schema-change); the first group is the name of the table that is changed. Where that table is of "
        "the job, the shadow is followed in silence, and its swap is one change of the table.",
    )
    tool_tables: tuple[str, ...] = Field(
        default=(r"_(.+?)(?:_\d{14})?_(?:del|ghc)", "_+(.+)_old"),
        description="The same for the other tables of such tools, which are never copied: logs, and tables put aside.",
    )

    @field_validator("shadow_tables", "tool_tables")
    @classmethod
    def _names(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        for pattern in value:
            try:
                groups = re.compile(pattern).groups
            except re.error as error:
                raise ValueError(f"{pattern!r} is no regular expression: {error}") from error
            if not groups:
                raise ValueError(f"{pattern!r} has no group for the name of the table, as in _(.+)_gho")
        return value

    @field_validator("url")
    @classmethod
    def _url(cls, value: str) -> str:
        address(value, SCHEMES)
        return value

    @field_validator("replicas")
    @classmethod
    def _replicas(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        for url in value:
            address(url, SCHEMES)
        return value

    @property
    def address(self) -> Address:
        """The parts of `url`."""
        return address(self.url, SCHEMES)

    @property
    def replica_addresses(self) -> tuple[Address, ...]:
        """The parts of `replicas`."""
        return tuple(address(url, SCHEMES) for url in self.replicas)

    def replica_id(self, name: str) -> int:
        """`server_id`, else an id that depends on `name` alone, 2^31 .. 2^31 + 2^30."""
        if self.server_id is not None:
            return self.server_id
        digest = hashlib.sha256(name.encode()).digest()
        return _FIRST_SERVER_ID + int.from_bytes(digest[:8], "big") % _SERVER_IDS
