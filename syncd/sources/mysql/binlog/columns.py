"""Column definitions of CREATE TABLE and ADD COLUMN, as the `Column`s that the server makes of them."""

from __future__ import annotations

from dataclasses import dataclass, replace

from syncd.model import Column
from syncd.sources.mysql.binlog import literals
from syncd.sources.mysql.binlog.control import Query
from syncd.sources.mysql.binlog.tokens import Kind, Token
from syncd.sources.mysql.types import arrow_type, base_type

_ALIASES = {
    "INTEGER": "int",
    "INT1": "tinyint",
    "INT2": "smallint",
    "INT3": "mediumint",
    "MIDDLEINT": "mediumint",
    "INT4": "int",
    "INT8": "bigint",
    "BOOL": "tinyint(1)",
    "BOOLEAN": "tinyint(1)",
    "DEC": "decimal",
    "NUMERIC": "decimal",
    "FIXED": "decimal",
    "REAL": "double",
    "FLOAT4": "float",
    "FLOAT8": "double",
    "CHARACTER": "char",
    "NCHAR": "char",
    "NVARCHAR": "varchar",
    "VARCHARACTER": "varchar",
    "LONG": "mediumtext",
}
_SIMPLE = {"TINYINT", "SMALLINT", "MEDIUMINT", "INT", "BIGINT", "DECIMAL", "FLOAT", "DOUBLE", "BIT", "DATE", "TIME"}
_SIMPLE |= {"DATETIME", "TIMESTAMP", "YEAR", "CHAR", "VARCHAR", "BINARY", "VARBINARY", "ENUM", "SET", "JSON"}
_SIMPLE |= {size + kind for size in ("TINY", "", "MEDIUM", "LONG") for kind in ("TEXT", "BLOB")}
_DEFAULT_LENGTH = {"decimal": "10,0", "char": "1", "binary": "1", "bit": "1"}
_NO_LENGTH = {"tinyint", "smallint", "mediumint", "int", "bigint", "year", "double", "float"}
_TEXT = {"char", "varchar", "tinytext", "text", "mediumtext", "longtext", "enum", "set"}
_BINARY = {"char": "binary", "varchar": "varbinary", "tinytext": "tinyblob", "text": "blob"}
_BINARY |= {"mediumtext": "mediumblob", "longtext": "longblob"}
_UNICODE = {"utf8mb4", "utf8mb3", "utf8"}
_NATIONAL = {"NATIONAL", "NCHAR", "NVARCHAR"}
_NO_ZERO = {"date", "datetime", "timestamp", "json"}
"""Types whose value in old rows is neither 0 nor empty, where they are NOT NULL and have no default."""


class Unclear(Exception):
    """The definition says too little, or something that is not followed."""


@dataclass(frozen=True, slots=True)
class Defined:
    """A column as its definition says. `column.charset` is "" where the definition leaves it to the table.

    `key`: "primary" or "unique" when the definition makes it one. `computed`: rows that are there already get a value
    that no constant says, or that is not surely known. The default of a TIMESTAMP is in the session's time zone
    (`settled`).
    """

    column: Column
    key: str
    computed: bool


def define(words: list[Token], *, mariadb: bool) -> Defined:
    """A name and everything behind it up to the comma. Unclear: see there."""
    if not words or words[0].kind not in {Kind.WORD, Kind.NAME}:
        raise Unclear("no column name")
    return _Definition(words, mariadb).read()


class _Definition:
    def __init__(self, words: list[Token], mariadb: bool) -> None:
        self._words, self._at, self._mariadb = words, 1, mariadb
        self._charset = self._collation = self._key = ""
        self._nullable, self._unsigned, self._computed = True, False, False
        self._null_said = False
        self._default: tuple[Token, str] | None = None

    def read(self) -> Defined:
        kind = self._type()
        while self._at < len(self._words):
            self._attribute()
        base = base_type(kind)
        if self._charset == "binary" and base in _BINARY:
            kind = _BINARY[base] + kind[len(base) :]
            base = base_type(kind)
        if self._unsigned:
            kind += " unsigned"
        text = base in _TEXT
        arrow = arrow_type(kind, self._charset)
        if arrow is None:
            raise Unclear(f"type {kind} {self._charset} is not supported")
        nullable = self._nullable and self._key != "primary"
        default = self._filling(kind, nullable)
        column = Column(
            self._words[0].text,
            arrow,
            nullable,
            kind,
            self._charset if text else "",
            self._collation if text else "",
            default,
        )
        return Defined(column, self._key, self._computed)

    def _filling(self, kind: str, nullable: bool) -> str | None:
        """What rows that are there get, None for NULL and for 0 or ""; `_computed` is set where it is not known."""
        base = base_type(kind)
        if base == "timestamp" and not self._null_said:
            self._computed = True  # what it gets depends on a setting of the session
        if self._default is not None:
            default = literals.constant(kind, *self._default)
            self._computed = self._computed or default is None
            return default
        if nullable:
            return None
        self._computed = self._computed or base in _NO_ZERO
        return literals.implicit(kind)

    # ------------------------------------------------------------------------------------------------------ words

    def _peek(self, ahead: int = 0) -> str:
        at = self._at + ahead
        return self._words[at].word if at < len(self._words) else ""

    def _accept(self, *wanted: str) -> bool:
        if all(self._peek(ahead) == word for ahead, word in enumerate(wanted)):
            self._at += len(wanted)
            return True
        return False

    def _next(self) -> Token:
        if self._at >= len(self._words):
            raise Unclear("the definition ends too early")
        self._at += 1
        return self._words[self._at - 1]

    def _parentheses(self) -> list[Token]:
        """What stands in the parentheses that begin here."""
        if not self._accept("("):
            raise Unclear("no parenthesis")
        depth, first = 1, self._at
        while depth:
            word = self._next().word
            depth += (word == "(") - (word == ")")
        return self._words[first : self._at - 1]

    # ------------------------------------------------------------------------------------------------------- type

    def _type(self) -> str:
        name = self._next().word
        if name in _NATIONAL:
            self._charset = "utf8mb3"
            if name == "NATIONAL":
                name = self._next().word
        if name == "SERIAL":
            self._unsigned, self._nullable, self._key, self._computed = True, False, "unique", True
            return "bigint"
        if name == "DOUBLE":
            self._accept("PRECISION")
        if name in {"CHAR", "CHARACTER", "NCHAR"} and self._accept("VARYING"):
            name = "VARCHAR"
        if name == "LONG" and self._accept("VARBINARY"):
            return "mediumblob"
        if name == "LONG":
            self._accept("VARCHAR") or self._accept("VARCHARACTER")
        base = _ALIASES.get(name) or (name.lower() if name in _SIMPLE else "")
        if not base:
            raise Unclear(f"type {name} is not supported")
        if base == "json" and self._mariadb:
            self._charset, self._collation = "utf8mb4", "utf8mb4_bin"
            return "longtext"
        return self._sized(base)

    def _sized(self, base: str) -> str:
        args = self._parentheses() if self._peek() == "(" else []
        if base in {"enum", "set"}:
            if not all(word.kind is Kind.TEXT or word.word == "," for word in args):
                raise Unclear("members that are no plain texts")
            names = [word.text.rstrip(" ") for word in args if word.kind is Kind.TEXT]
            return f"{base}({','.join(chr(39) + name.replace(chr(39), chr(39) * 2) + chr(39) for name in names)})"
        size = "".join(word.text for word in args)
        if base == "float" and size and "," not in size:
            base = "float" if int(size) <= 24 else "double"
        if (base in _NO_LENGTH and "," not in size) or not size:
            default = _DEFAULT_LENGTH.get(base)
            return f"{base}({default})" if default else base
        if base in {"text", "blob"}:
            raise Unclear("a TEXT or BLOB with a length, whose type depends on it")
        if base == "decimal" and "," not in size:
            size += ",0"
        if base in {"time", "datetime", "timestamp"} and size == "0":
            return base
        return f"{base}({size})"

    # ------------------------------------------------------------------------------------------------- attributes

    def _attribute(self) -> None:
        word = self._next().word
        match word:
            case "UNSIGNED" | "ZEROFILL":
                self._unsigned = True
            case "NULL":
                self._nullable = self._null_said = True
            case "NOT":
                self._next()
                self._nullable, self._null_said = False, True
            case "DEFAULT":
                self._read_default()
            case "AUTO_INCREMENT" | "GENERATED" | "AS":
                self._computed = True
                if word == "AS":
                    self._parentheses()
            case "PRIMARY" | "KEY" | "UNIQUE":
                self._read_key(word)
            case "CHARACTER" | "CHARSET" | "COLLATE" | "ASCII":
                self._read_charset(word)
            case _:
                self._harmless(word)

    def _read_key(self, word: str) -> None:
        if word != "KEY":
            self._accept("KEY")
        if word == "UNIQUE":
            self._key = self._key or "unique"
        else:
            self._key, self._nullable = "primary", False

    def _read_charset(self, word: str) -> None:
        if word == "ASCII":
            self._charset = "latin1"
        elif word == "COLLATE":
            self._collation = self._value().lower()
            self._charset = _charset(self._collation.partition("_")[0])
        else:
            if word == "CHARACTER":
                self._next()
            self._charset = _charset(self._value())

    def _harmless(self, word: str) -> None:
        match word:
            case "SIGNED" | "VISIBLE" | "INVISIBLE" | "VIRTUAL" | "STORED" | "PERSISTENT" | "ALWAYS":
                pass
            case "COMMENT" | "COLUMN_FORMAT" | "STORAGE" | "SRID" | "ENGINE_ATTRIBUTE" | "SECONDARY_ENGINE_ATTRIBUTE":
                self._value()
            case "CHECK":
                self._parentheses()
                self._accept("NOT")
                self._accept("ENFORCED")
            case "CONSTRAINT":
                if self._peek() != "CHECK":
                    self._next()
            case "ON":
                self._next()
                self._function()
            case "REFERENCES":
                self._at = len(self._words)  # nothing but the foreign key's own words can follow
            case _:
                raise Unclear(f"{word or 'a quoted word'} in a column's definition is not followed")

    def _value(self) -> str:
        self._accept("=")
        return self._next().text

    def _function(self) -> None:
        self._next()
        if self._peek() == "(":
            self._parentheses()

    def _read_default(self) -> None:
        if self._peek() == "(":
            self._parentheses()
            self._computed = True
            return
        sign = "-" if self._accept("-") else ""
        self._accept("+")
        token = self._next()
        if token.word in {"TRUE", "FALSE"}:
            token = Token(Kind.NUMBER, str(int(token.word == "TRUE")))
        if token.kind in {Kind.TEXT, Kind.NUMBER}:
            self._default = token, sign
        elif token.word == "NULL":
            self._default = None
        else:
            self._computed = True
            if self._peek() == "(":
                self._parentheses()


def settled(defined: Defined, query: Query, charset: str) -> Defined:
    """With what the session says of the default: its time zone, its mode, the character set of the statement."""
    column = defined.column
    if column.default is None:
        return defined
    if column.default == "" and query.empty_is_null:
        return replace(defined, computed=True)
    if not column.default.isascii() and charset not in _UNICODE:
        return replace(defined, computed=True)  # other character sets are read here in nearly the server's way only
    if base_type(column.source_type) != "timestamp":
        return defined
    default = literals.in_zone(column.default, query.zone)
    return replace(defined, column=replace(column, default=default), computed=defined.computed or default is None)


def _charset(name: str) -> str:
    return "utf8mb3" if name.lower() == "utf8" else name.lower()
