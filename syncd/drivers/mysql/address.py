"""Where a server is, and how the connection to it is encrypted, as job files say it."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path
from typing import Literal
from urllib.parse import SplitResult, unquote, urlsplit

from pydantic import BaseModel, ConfigDict, Field

_LOOPBACK = ("localhost", "::1")


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


def address(url: str, schemes: Collection[str], port: int = 3306, *, database: bool = False) -> Address:
    """The parts of an url that begins with one of `schemes`, in the order in which they are named. ValueError.

    `database`: it may name one behind the port.
    """
    parts: SplitResult = urlsplit(url)
    first = next(iter(schemes))
    if parts.scheme not in schemes:
        names = " or ".join(f"{name}://" for name in schemes)
        raise ValueError(f"begins with {names}, as in {first}://user@host:{port}/")
    if parts.password is not None:
        raise ValueError("holds no password, since urls get into logs; put it into `password`")
    if (parts.path.strip("/") and not database) or parts.query or parts.fragment:
        end = "the database" if database else "the port"
        raise ValueError(f"ends after {end}: tables are named in `tables`, everything else by its own option")
    try:
        given = parts.port or port
    except ValueError as error:
        raise ValueError(f"its port is no number up to 65535, as in {first}://user@host:{port}/") from error
    return Address(user=unquote(parts.username or "root"), host=parts.hostname or "127.0.0.1", port=given)


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
