"""What a job file may say of a MySQL or MariaDB source."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Literal
from urllib.parse import SplitResult, unquote, urlsplit

from pydantic import BaseModel, ConfigDict, Field, SecretStr, field_validator

_LOOPBACK = ("localhost", "::1")
# Ids below are what people give to real servers; the protocol's field is 32 bits.
_FIRST_SERVER_ID = 1 << 31
_SERVER_IDS = (1 << 30) - 1


class Address(BaseModel):
    """Where a server is: the parts of an url."""

    model_config = ConfigDict(frozen=True)

    user: str
    host: str
    port: int

    @property
    def loopback(self) -> bool:
        """Whether the connection cannot leave this machine."""
        return self.host in _LOOPBACK or self.host.startswith("127.")

    def __str__(self) -> str:
        return f"{self.host}:{self.port}"


def _address(url: str) -> Address:
    parts: SplitResult = urlsplit(url)
    if parts.scheme not in {"mysql", "mariadb"}:
        raise ValueError("begins with mysql:// or mariadb://, as in mysql://user@host:3306/")
    if parts.password is not None:
        raise ValueError("holds no password, since urls get into logs; put it into `password`")
    if parts.path.strip("/") or parts.query or parts.fragment:
        raise ValueError("ends after the port: tables are named in `tables`, everything else by its own option")
    try:
        port = parts.port or 3306
    except ValueError as error:
        raise ValueError("its port is no number up to 65535, as in mysql://user@host:3306/") from error
    return Address(user=unquote(parts.username or "root"), host=parts.hostname or "127.0.0.1", port=port)


class Tls(BaseModel):
    """Encryption of the connection."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    ca: Path | None = Field(
        default=None, description="PEM file with the authorities that may sign the server's certificate."
    )
    cert: Path | None = Field(
        default=None, description="PEM file with the client's certificate, where the server asks for one."
    )
    key: Path | None = Field(
        default=None, description="PEM file with the key of `cert`; not needed when `cert` holds both."
    )
    verify: Literal["full", "ca", "none"] = Field(
        default="full",
        description="`full`: the certificate is signed by `ca` (or the system's authorities) and names the host; "
        "`ca`: signed, whatever the name; `none`: encrypted only, anyone may answer.",
    )


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

    @field_validator("url")
    @classmethod
    def _url(cls, value: str) -> str:
        _address(value)
        return value

    @field_validator("replicas")
    @classmethod
    def _replicas(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        for url in value:
            _address(url)
        return value

    @property
    def address(self) -> Address:
        """The parts of `url`."""
        return _address(self.url)

    @property
    def replica_addresses(self) -> tuple[Address, ...]:
        """The parts of `replicas`."""
        return tuple(_address(url) for url in self.replicas)

    def replica_id(self, name: str) -> int:
        """`server_id`, else an id that depends on `name` alone, 2^31 .. 2^31 + 2^30."""
        if self.server_id is not None:
            return self.server_id
        digest = hashlib.sha256(name.encode()).digest()
        return _FIRST_SERVER_ID + int.from_bytes(digest[:8], "big") % _SERVER_IDS
