"""ALTER TABLE statements by chance, of a table as its server describes it."""

from __future__ import annotations

from collections.abc import Callable
from random import Random

from syncd.model import TableSchema
from syncd.sources.mysql.types import base_type

TYPES = [
    *["INT", "INT UNSIGNED", "TINYINT(1)", "BIGINT(9) ZEROFILL", "SMALLINT", "MEDIUMINT UNSIGNED", "BOOL", "INT(5)"],
    *["DECIMAL(10,2)", "NUMERIC(7)", "DOUBLE", "FLOAT", "FLOAT(7,2)", "BIT(5)", "YEAR"],
    *["VARCHAR(20)", "VARCHAR(5)", "CHAR(4)", "TEXT", "TINYTEXT", "MEDIUMTEXT", "LONGTEXT"],
    *["VARCHAR(9) CHARACTER SET latin1", "TEXT COLLATE utf8mb4_bin", "VARCHAR(7) CHARSET utf8 COLLATE utf8_bin"],
    *["CHAR(3) CHARACTER SET ascii", "VARCHAR(12) CHARACTER SET utf8mb4", "VARCHAR(6) CHARACTER SET binary"],
    *["BINARY(4)", "VARBINARY(9)", "BLOB", "JSON", "ENUM('a','b''c','d ')", "SET('x','y')", "ENUM('a') CHARSET latin1"],
    *["DATE", "DATETIME", "DATETIME(3)", "TIMESTAMP NULL", "TIMESTAMP(2) NOT NULL DEFAULT '2020-01-01'", "TIME(1)"],
]
NUMBERS = {"int", "tinyint", "bigint", "smallint", "mediumint", "decimal", "double", "float"}
DEFAULTS = {name: ["5", "'7'", "0"] for name in NUMBERS}
DEFAULTS |= {"varchar": ["'ab'", "''", "'it''s'"], "char": ["'x'"], "varbinary": ["'ab'"], "enum": ["'a'"]}
DEFAULTS |= {"set": ["'x'"], "date": ["'2020-02-03'"], "year": ["2001"], "bit": ["b'101'"], "time": ["'10:00:00'"]}
DEFAULTS |= {"datetime": ["'2020-01-01 10:00:00'", "CURRENT_TIMESTAMP", "NOW() ON UPDATE NOW()"]}
PREFIXED = {"varchar", "char", "tinytext", "text", "mediumtext", "longtext", "blob"}
NAMES = [*"abcdefgh", "Upper", "with space"]


class Alters:
    """Makes statements; many of them the server refuses."""

    def __init__(self, random: Random, *, mariadb: bool, old: bool) -> None:
        self._random, self._mariadb, self._old = random, mariadb, old

    def statement(self, schema: TableSchema) -> str:
        self._columns = [column for column in schema.columns if not column.normal_of]
        self._schema = schema
        parts = [self._part() for _ in range(self._random.choice([1, 1, 2, 2, 3, 4]))]
        if self._old:  # MySQL 8.0.15 crashes where other parts stand beside it
            parts = [part for part in parts if "CONVERT" not in part] or parts[:1]
        if self._random.random() < 0.1:
            return self._index_statement()
        return f"ALTER TABLE {quoted(schema.table.name)} " + ", ".join(parts)

    def definition(self) -> str:
        kind = self._random.choice(TYPES)
        if self._mariadb and kind.startswith("VARCHAR(7)"):
            kind = kind.replace("utf8 ", "utf8mb3 ").replace("utf8_", "utf8mb3_")
        base = base_type(kind.replace(" ", "("))
        words = [kind]
        if self._random.random() < 0.12:
            number = next((c.name for c in self._columns if base_type(c.source_type) in NUMBERS), None)
            if number:
                stored = self._random.choice(["", " STORED", " VIRTUAL"])
                return f"INT GENERATED ALWAYS AS ({quoted(number)} + 1){stored}"
        if "NULL" not in kind and self._random.random() < 0.4:
            words.append(self._random.choice(["NOT NULL", "NULL"]))
        options = DEFAULTS.get(base, [])
        if options and "DEFAULT" not in kind and self._random.random() < 0.5:
            default = self._random.choice(options)
            fraction = "(3)" if "(3)" in kind else ""
            words.append(
                "DEFAULT "
                + default.replace("CURRENT_TIMESTAMP", f"CURRENT_TIMESTAMP{fraction}").replace(
                    "NOW()", f"NOW({fraction.strip('()')})"
                )
            )
        elif base in NUMBERS and self._random.random() < 0.06 and not self._old:
            words.append("DEFAULT (1 + 2)")
        if self._random.random() < 0.2:
            words.append("COMMENT " + self._random.choice(["'note'", "'it''s'", "''"]))
        if self._random.random() < 0.05 and base not in PREFIXED:
            words.append("UNIQUE")  # of a text, MariaDB makes a hidden column that rows in the log have, too
        return " ".join(words)

    def _part(self) -> str:
        r, column = self._random, self._one
        choices: list[tuple[int, Callable[[], str]]] = [
            (6, lambda: f"ADD {r.choice(['', 'COLUMN '])}{self._new()} {self.definition()}{self._place()}"),
            (1, lambda: f"ADD ({self._new()} {self.definition()}, {self._new()} {self.definition()})"),
            (4, lambda: f"DROP {r.choice(['', 'COLUMN '])}{column()}"),
            (5, lambda: f"MODIFY {column()} {self.definition()}{self._place()}"),
            (5, lambda: f"CHANGE {column()} {r.choice([self._new, column])()} {self.definition()}{self._place()}"),
            (3, lambda: f"RENAME COLUMN {column()} TO {r.choice([self._new, column])()}"),
            (2, lambda: f"ALTER COLUMN {column()} {r.choice(['DROP DEFAULT', 'SET DEFAULT 5', 'SET DEFAULT NULL'])}"),
            (1, lambda: f"ALTER {column()} SET DEFAULT 'ab'"),
            (4, lambda: "ADD " + self._index()),
            (2, lambda: f"DROP {r.choice(['INDEX', 'KEY'])} {self._known_index()}"),
            (1, lambda: f"RENAME INDEX {self._known_index()} TO {r.choice(['i1', 'Z2', '_u'])}"),
            (1, lambda: f"COMMENT = 'c{r.randrange(9)}'"),
            (1, lambda: r.choice(["DEFAULT CHARSET latin1", "DEFAULT CHARACTER SET = utf8mb4", "COLLATE utf8mb4_bin"])),
            (1, lambda: "CONVERT TO CHARACTER SET " + r.choice(["latin1", "utf8mb4", "utf8mb4 COLLATE utf8mb4_bin"])),
            (1, lambda: r.choice(["ENGINE=InnoDB", "FORCE", "ALGORITHM=COPY", "AUTO_INCREMENT=50"])),
        ]
        if self._mariadb:
            choices += [
                (1, lambda: f"ADD COLUMN IF NOT EXISTS {r.choice([self._new, column])()} {self.definition()}"),
                (1, lambda: f"DROP COLUMN IF EXISTS {r.choice([self._new, column])()}"),
                (1, lambda: f"MODIFY IF EXISTS {r.choice([self._new, column])()} {self.definition()}"),
                (1, lambda: f"ADD INDEX IF NOT EXISTS {self._known_index()} ({column()})"),
            ]
        made = r.choices([make for _, make in choices], [weight for weight, _ in choices])[0]
        return made()

    def _index_statement(self) -> str:
        table = quoted(self._schema.table.name)
        if self._random.random() < 0.4:
            return f"DROP INDEX {self._known_index()} ON {table}"
        kind = self._random.choice(["", "UNIQUE ", ""])
        return f"CREATE {kind}INDEX {self._random.choice(['i1', 'i2', 'u_x'])} ON {table} ({self._parts()})"

    def _index(self) -> str:
        kind = self._random.choice(["INDEX", "KEY", "UNIQUE", "UNIQUE KEY", "INDEX", "CONSTRAINT cc UNIQUE"])
        name = self._random.choice(["", "", "i1 ", "I2 ", "`_u` "])
        tail = self._random.choice(["", "", " COMMENT 'ix'", " USING BTREE"])
        return f"{kind} {name}({self._parts()}){tail}"

    def _parts(self) -> str:
        found = []
        for column in self._random.sample(self._columns, min(len(self._columns), self._random.choice([1, 1, 2]))):
            text = base_type(column.source_type) in PREFIXED
            prefix = (
                f"({self._random.choice([2, 3, 5])})" if text and (self._mariadb or self._random.random() < 0.7) else ""
            )
            found.append(quoted(column.name) + prefix + self._random.choice(["", "", " DESC"]))
        return ", ".join(found)

    def _known_index(self) -> str:
        names = [index.name for index in self._schema.indexes] or ["i1"]
        return quoted(self._random.choice([*names, "i1"]))

    def _one(self) -> str:
        """Seldom one of the key: most changes of it are not followed."""
        others = [column for column in self._columns if column.name not in self._schema.key]
        name = self._random.choice(others if others and self._random.random() < 0.95 else self._columns).name
        return quoted(name.upper() if self._random.random() < 0.1 else name)

    def _new(self) -> str:
        return quoted(self._random.choice(NAMES))

    def _place(self) -> str:
        chance = self._random.random()
        return " FIRST" if chance < 0.15 else f" AFTER {self._one()}" if chance < 0.4 else ""


def quoted(name: str) -> str:
    return "`" + name.replace("`", "``") + "`"
