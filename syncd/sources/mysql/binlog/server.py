"""What the reading of a statement needs to know of its session and its server, and how that server spells things."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from syncd.model import TableId

_NONE: Mapping[str, str] = {}
_OLD, _NEW = "utf8", "utf8mb3"
"""One character set, by the name that it had until MySQL 8.0.28 and MariaDB 10.6, and since."""


class Unclear(Exception):
    """The statement says too little, or something that is not followed."""


class Server(NamedTuple):
    """`database`: the session's. `fold`: tables have lower-case names. `version`: as in version comments (80015).
    `collations`: the default of each character set, as the session has it. `strict`: the session refuses values that do
    not fit.
    """

    database: str = ""
    mariadb: bool = False
    fold: bool = False
    version: int = 80030
    collations: Mapping[str, str] = _NONE
    strict: bool = False

    def table(self, name: str, database: str | None = None) -> TableId:
        found = TableId(self.database if database is None else database, name)
        return TableId(found.database.lower(), name.lower()) if self.fold else found

    @property
    def widths(self) -> bool:
        """It shows how wide an integer is displayed."""
        return self.mariadb or self.version < 80019

    @property
    def refers(self) -> bool:
        """REFERENCES in a column's definition makes a foreign key."""
        return self.mariadb or self.version >= 90000

    @property
    def _utf8(self) -> str:
        return _OLD if _OLD in self.collations else _NEW

    def charset(self, name: str) -> str:
        return self._utf8 if name.lower() in {_OLD, _NEW} else name.lower()

    def collation(self, name: str) -> str:
        charset, _, rest = name.lower().partition("_")
        return f"{self._utf8}_{rest}" if charset in {_OLD, _NEW} and rest else name.lower()

    def default_collation(self, charset: str) -> str:
        """Of a character set; "" where it is not known."""
        if self.mariadb and self.version >= 110200 and charset.startswith("utf8"):
            return ""  # a setting of the session that the log tells in a way of its own
        return self.collations.get(charset, "")


def charset_of(collation: str) -> str:
    """By its name."""
    return collation.partition("_")[0]
