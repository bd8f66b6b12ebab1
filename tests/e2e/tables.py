"""The tables of the big proof: five kinds of keys, every kind of column, filled and changed many rows at a time.

A row is made by the server out of its number n and a salt, so that a statement of one line writes hundreds of rows and
every value of them is another one with another salt.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

AWAY = 1_000_000
"""Added to a number: where rows of `kinds` go when their key changes, and come back from."""


@dataclass(frozen=True)
class Table:
    """`columns`: name -> SQL of a value, out of {n} and {s}; the first one leads the key.

    `lead`: the SQL literal of the leading key column for a number. `moves`: SET clauses that change the key. `keys`:
    how many of the columns no plain update may touch.
    """

    name: str
    ddl: str
    columns: Mapping[str, str]
    lead: Callable[[int], str]
    moves: Sequence[str]
    share: float = 0.0
    keys: int = 1

    @property
    def leading(self) -> str:
        return next(iter(self.columns))

    def insert(self, verb: str, first: int, count: int, salt: int) -> str:
        """`verb`: INSERT, INSERT IGNORE or REPLACE."""
        values = ", ".join(sql.format(n="n", s=salt) for sql in self.columns.values())
        rows = f"SELECT {first} + {_numbers(count)} AS n FROM {_digits(count)}"
        return f"{verb} INTO {self.name} ({', '.join(self.columns)}) SELECT {values} FROM ({rows}) AS numbers WHERE n < {first + count}"  # noqa: E501

    def update(self, where: str, columns: Sequence[str], salt: int) -> str:
        """Other values in these columns, made of the hash of their old ones' neighbour, the leading key column."""
        sets = ", ".join(f"{name} = {self.columns[name].format(n=f'HEX({self.leading})', s=salt)}" for name in columns)
        return f"UPDATE {self.name} SET {sets} WHERE {where}"

    @property
    def plain(self) -> list[str]:
        """Columns that any statement may give any value."""
        return [*self.columns][self.keys :]


def h(which: int) -> str:
    """A number of 32 bits."""
    return f"CRC32(CONCAT({{n}}, '-', {{s}}, '-{which}'))"


def signed(which: int, size: int) -> str:
    return f"CAST({h(which)} % {2 * size} AS SIGNED) - {size}"


def sometimes_null(sql: str, which: int) -> str:
    return f"IF({h(which)} % 11 = 0, NULL, {sql})"


def _digits(count: int) -> str:
    one = "(SELECT 0 AS d" + "".join(f" UNION ALL SELECT {d}" for d in range(1, 10)) + ")"
    return ", ".join(f"{one} AS d{place}" for place in range(len(str(max(count - 1, 1)))))


def _numbers(count: int) -> str:
    return " + ".join(f"{10**place} * d{place}.d" for place in range(len(str(max(count - 1, 1)))))


KINDS = Table(
    "kinds",
    """CREATE TABLE kinds (id BIGINT NOT NULL PRIMARY KEY, tiny TINYINT NOT NULL, small SMALLINT UNSIGNED NULL,
       medium MEDIUMINT NOT NULL, whole INT UNSIGNED NOT NULL, big BIGINT UNSIGNED NULL, exact DECIMAL(20,6) NOT NULL,
       wide DECIMAL(65,30) NULL, single FLOAT NOT NULL, twice DOUBLE NULL, bits BIT(17) NOT NULL, yes BOOLEAN NULL,
       day DATE NOT NULL, moment DATETIME(6) NULL, stamp TIMESTAMP(3) NULL, span TIME(2) NOT NULL, since YEAR NOT NULL,
       fixed CHAR(8) NOT NULL, words VARCHAR(80) NULL, latin VARCHAR(20) CHARACTER SET latin1 NOT NULL, more TEXT NULL,
       raw6 BINARY(6) NOT NULL, bytes VARBINARY(20) NOT NULL, large BLOB NULL,
       pick ENUM('red','gréen','blue') NOT NULL, some SET('a','b','c') NOT NULL, doc JSON NULL)""",
    {
        "id": "{n}",
        "tiny": signed(1, 128),
        "small": sometimes_null(f"{h(2)} % 65536", 3),
        "medium": signed(3, 8388608),
        "whole": h(4),
        "big": sometimes_null(f"{h(5)} * 4294967296 + {h(6)}", 4),
        "exact": f"CAST(CONCAT(IF({h(7)} % 2, '-', ''), {h(7)}, '.', LPAD({h(8)} % 1000000, 6, '0')) AS DECIMAL(20,6))",
        "wide": f"CAST(CONCAT('-', {h(9)}, {h(10)}, {h(11)}, '.', LPAD({h(12)}, 30, '7')) AS DECIMAL(65,30))",
        "single": f"({signed(13, 2147483648)}) / 7e0",
        "twice": sometimes_null(f"({signed(14, 2147483648)}) / ({h(15)} + 1e0)", 5),
        "bits": f"{h(16)} % 131072",
        "yes": sometimes_null(f"{h(17)} % 2", 6),
        "day": f"DATE_ADD('1990-01-01', INTERVAL {h(18)} % 20000 DAY)",
        "moment": f"DATE_ADD('2001-02-03 04:05:06.000007', INTERVAL {h(19)} * 10001 MICROSECOND)",
        "stamp": sometimes_null(f"DATE_ADD('2010-01-01 00:00:00.123', INTERVAL {h(20)} % 300000000 SECOND)", 7),
        "span": f"SEC_TO_TIME(({signed(21, 12000000)}) / 4)",
        "since": f"1901 + {h(22)} % 255",
        "fixed": f"LEFT(SHA2({h(23)}, 224), 8)",
        "words": sometimes_null(f"CONCAT('ä€😀', LEFT(SHA2({h(24)}, 224), 32))", 8),
        "latin": f"CONCAT('ÿé', {h(25)})",
        "more": f"REPEAT(LEFT(SHA2({h(26)}, 224), 32), {h(26)} % 4)",
        "raw6": f"UNHEX(LEFT(SHA2({h(27)}, 224), 12))",
        "bytes": f"UNHEX(LEFT(SHA2({h(28)}, 224), 2 * ({h(28)} % 16)))",
        "large": sometimes_null(f"UNHEX(SHA2({h(29)}, 224))", 9),
        "pick": f"ELT(1 + {h(30)} % 3, 'red', 'gréen', 'blue')",
        "some": f"{h(31)} % 8",
        "doc": f"JSON_OBJECT('n', {h(32)}, 's', SHA2({h(33)}, 224), 'all', JSON_ARRAY({h(34)} % 7, NULL, 'ü'))",
    },
    str,
    (f"id = IF(id < {AWAY}, id + {AWAY}, id - {AWAY})",),
    0.3,
)
PAIRS = Table(
    "pairs",
    """CREATE TABLE pairs (a BIGINT NOT NULL, b VARCHAR(20) COLLATE utf8mb4_bin NOT NULL, v DOUBLE NULL,
       n INT NOT NULL, PRIMARY KEY (a, b))""",
    {
        "a": "{n} DIV 3",
        "b": "CONCAT('k', {n} % 3)",
        "v": sometimes_null(f"{h(1)} / 8e0", 1),
        "n": signed(2, 2147483648),
    },
    lambda n: str(n // 3),
    ("a = a + 1", "b = CONCAT(UPPER(b), 'x')", "b = LEFT(LOWER(b), 2)"),
    0.25,
    keys=2,
)
WORDS = Table(
    "words",
    """CREATE TABLE words (word VARCHAR(40) COLLATE utf8mb4_general_ci NOT NULL PRIMARY KEY, n INT UNSIGNED NOT NULL,
       note VARCHAR(60) NULL)""",
    {
        "word": f"CONCAT(ELT(1 + {h(1)} % 3, 'wört', 'WÖRT', 'Wort'), LPAD({{n}}, 7, '0'))",
        "n": h(2),
        "note": sometimes_null(f"LEFT(SHA2({h(3)}, 224), 32)", 3),
    },
    lambda n: f"'wort{n:07d}'",
    (
        "word = UPPER(word)",
        "word = LOWER(word)",
        "word = REPLACE(word, '00', '10')",
        "word = REPLACE(word, '10', '00')",
    ),
    0.2,
)
MOMENTS = Table(
    "moments",
    """CREATE TABLE moments (amount DECIMAL(14,3) NOT NULL, at DATETIME(6) NOT NULL, n INT UNSIGNED NOT NULL,
       span TIME NULL, PRIMARY KEY (amount, at))""",
    {
        "amount": "CAST({n} AS SIGNED) / 4 - 500",
        "at": "DATE_ADD('2026-01-01', INTERVAL {n} * 777 MICROSECOND)",
        "n": h(1),
        "span": f"SEC_TO_TIME({signed(2, 3000000)})",
    },
    lambda n: str(n / 4 - 500),
    ("amount = amount + 0.001", "at = at + INTERVAL 1 MICROSECOND", "amount = -amount"),
    0.15,
    keys=2,
)
BLOBS = Table(
    "blobs",
    "CREATE TABLE blobs (id BINARY(8) NOT NULL PRIMARY KEY, n INT UNSIGNED NOT NULL, body VARBINARY(40) NULL)",
    {"id": "UNHEX(LPAD(HEX({n}), 16, '0'))", "n": h(1), "body": sometimes_null(f"UNHEX(SHA2({h(2)}, 224))", 2)},
    lambda n: f"x'{n:016x}'",
    ("id = UNHEX(CONCAT('FF', SUBSTRING(HEX(id), 3)))", "id = UNHEX(CONCAT('00', SUBSTRING(HEX(id), 3)))"),
    0.1,
)
MAILS = Table(
    "mails",
    """CREATE TABLE mails (id INT NOT NULL PRIMARY KEY, mail VARCHAR(40) COLLATE utf8mb4_bin NULL,
       n INT UNSIGNED NOT NULL, UNIQUE KEY by_mail (mail))""",
    {"id": "{n}", "mail": "CONCAT('m', {n})", "n": h(1)},
    str,
    KINDS.moves,
    0.05,
    keys=2,
)
"""Its `mail` is unique, and changes hands: `BulkWorkload` does that row by row, so `plain` is without it."""
ALL = (KINDS, PAIRS, WORDS, MOMENTS, BLOBS, MAILS)


def later(number: int) -> Table:
    """A table that is made while the job runs."""
    return Table(
        f"later{number}",
        f"""CREATE TABLE later{number} (id INT NOT NULL PRIMARY KEY, v VARCHAR(40) COLLATE utf8mb4_general_ci NULL,
            d DECIMAL(30,10) NOT NULL, f CHAR(3) NOT NULL DEFAULT 'abc')""",
        {"id": "{n}", "v": sometimes_null(f"LEFT(SHA2({h(1)}, 224), 32)", 1), "d": f"{h(2)} / 7"},
        str,
        (f"id = IF(id < {AWAY}, id + {AWAY}, id - {AWAY})",),
    )


ADDED = (
    "INT NOT NULL DEFAULT 42",
    "VARCHAR(12) NULL",
    "DECIMAL(9,2) NOT NULL DEFAULT 1.50",
    "DATETIME NOT NULL DEFAULT '2026-01-02 03:04:05'",
    "VARCHAR(9) NOT NULL DEFAULT 'ü'",
)
"""Columns that are added while the job runs, in turn."""
