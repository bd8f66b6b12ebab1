"""Column definitions of CREATE TABLE and ADD COLUMN, as the `Column`s that the server makes of them."""

from __future__ import annotations

from dataclasses import dataclass

from syncd.model import Column
from syncd.sources.mysql.binlog import literals
from syncd.sources.mysql.binlog.expressions import expression
from syncd.sources.mysql.binlog.server import Server, Unclear, charset_of
from syncd.sources.mysql.binlog.tokens import Kind, Token
from syncd.sources.mysql.types import arrow_type, base_type, listed

_ALIASES = {
    "INTEGER": "int",
    "INT1": "tinyint",
    "INT2": "smallint",
    "INT3": "mediumint",
    "MIDDLEINT": "mediumint",
    "INT4": "int",
    "INT8": "bigint",
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
_WIDTHS = {"tinyint": (4, 3), "smallint": (6, 5), "mediumint": (9, 8), "int": (11, 10), "bigint": (20, 20)}
"""How wide an integer is displayed where nothing is said, signed and unsigned."""
_TEXT = {"char", "varchar", "tinytext", "text", "mediumtext", "longtext", "enum", "set"}
_BINARY = {"char": "binary", "varchar": "varbinary", "tinytext": "tinyblob", "text": "blob"}
_BINARY |= {"mediumtext": "mediumblob", "longtext": "longblob"}
_NATIONAL = {"NATIONAL", "NCHAR", "NVARCHAR"}
_NO_ZERO = {"date", "datetime", "timestamp", "json"}
"""Types whose value in old rows is neither 0 nor empty, where they are NOT NULL and have no default."""


@dataclass(frozen=True, slots=True)
class Defined:
    """A column as its definition says. `column.charset` is "" where the definition leaves it to the table, and
    `column.collation` where it leaves it to the character set.

    `key`: "primary" or "unique" when the definition makes it one. `implicit`: what rows that are there get where no
    DEFAULT is said, None for NULL, 0 and "". `volatile`: they get a value that no constant says. `unclear`: what of the
    column is not surely known, though it can be read. `refers`: it makes a foreign key. The default of a TIMESTAMP is
    in the session's time zone (`settled`).
    """

    column: Column
    key: str = ""
    implicit: str | None = None
    volatile: bool = False
    unclear: str = ""
    refers: bool = False


def define(words: list[Token], server: Server) -> Defined:
    """A name and everything behind it up to the comma. Unclear: see there."""
    if not words or words[0].kind not in {Kind.WORD, Kind.NAME}:
        raise Unclear("no column name")
    try:
        return _Definition(words, server).read()
    except ValueError as error:  # a length that is no number
        raise Unclear(f"the type of {words[0].text}") from error


class _Definition:
    def __init__(self, words: list[Token], server: Server) -> None:
        self._words, self._at, self._server = words, 1, server
        self._charset = self._collation = self._key = self._comment = ""
        self._nullable, self._unsigned, self._zerofill = True, False, False
        self._null_said = self._counts = self._refers = self._odd = False
        self._default: tuple[Token, str] | None = None
        self._computed = self._update = self._generated = ""

    def read(self) -> Defined:
        kind, size = self._type()
        while self._at < len(self._words):
            self._attribute()
        if self._charset == "binary" and kind in _BINARY:
            kind = _BINARY[kind]
        kind = self._spelled(kind, size)
        base = base_type(kind)
        text = base in _TEXT
        arrow = arrow_type(kind, self._charset)
        if arrow is None or (text and self._charset == "binary"):
            raise Unclear(f"type {kind} {self._charset} is not supported")
        nullable = self._nullable and self._key != "primary"
        default = literals.constant(kind, *self._default) if self._default else None
        column = Column(
            self._words[0].text,
            arrow,
            nullable,
            kind,
            self._charset if text else "",
            self._collation if text else "",
            default,
            self._comment,
            generated=self._generated,
            filled=self._filled(),
        )
        odd = self._odd or (self._default is not None and default is None)
        unclear = f"the default of {column.name}" if odd else ""
        if base == "timestamp" and not self._null_said and not self._generated:
            unclear = f"whether {column.name} may be NULL, which a setting of the session says"
        said = self._default is not None or nullable
        volatile = bool(self._computed or self._generated or self._counts) or (not said and base in _NO_ZERO)
        implicit = None if said or volatile else literals.implicit(kind)
        return Defined(column, self._key, implicit, volatile, unclear, self._refers)

    def _filled(self) -> str:
        if self._counts:
            return "AUTO_INCREMENT"
        clauses = [f"DEFAULT {self._computed}" if self._computed else "", f"ON UPDATE {self._update}"]
        return " ".join(clauses[: 1 + bool(self._update)]).strip()

    def _spelled(self, kind: str, size: str) -> str:
        """The type as the server shows it."""
        boolean = kind == "tinyint" and size == "1" and not self._unsigned and not self._zerofill
        if kind in _WIDTHS:
            usual = "1" if boolean else str(_WIDTHS[kind][self._unsigned])
            shown = self._server.widths or self._zerofill or boolean
            kind += f"({size or usual})" if shown else ""
        elif kind == "year":
            kind += "(4)" if self._server.widths else ""
        elif size:
            kind += f"({size})"
        return kind + " unsigned" * self._unsigned + " zerofill" * self._zerofill

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

    def _type(self) -> tuple[str, str]:
        """Its first word as the server shows it, and what stands in its parentheses, "" for none."""
        name = self._next().word
        if name in _NATIONAL:
            self._charset = self._server.charset("utf8mb3")
            if name == "NATIONAL":
                name = self._next().word
        if name == "SERIAL":
            self._unsigned, self._nullable, self._key, self._counts = True, False, "unique", True
            return "bigint", ""
        if name == "DOUBLE":
            self._accept("PRECISION")
        if name in {"CHAR", "CHARACTER", "NCHAR"} and self._accept("VARYING"):
            name = "VARCHAR"
        if name == "LONG" and self._accept("VARBINARY"):
            return "mediumblob", ""
        if name == "LONG":
            self._accept("VARCHAR") or self._accept("VARCHARACTER")
        if name in {"BOOL", "BOOLEAN"}:
            return "tinyint", "1"
        base = _ALIASES.get(name) or (name.lower() if name in _SIMPLE else "")
        if not base:
            raise Unclear(f"type {name} is not supported")
        if base == "json" and self._server.mariadb:
            self._charset, self._collation = "utf8mb4", "utf8mb4_bin"
            return "longtext", ""
        return self._sized(base)

    def _sized(self, base: str) -> tuple[str, str]:
        args = self._parentheses() if self._peek() == "(" else []
        if base in {"enum", "set"}:
            if not args or not all(word.kind is Kind.TEXT or word.word == "," for word in args):
                raise Unclear("members that are no plain texts")
            names = [word.text.rstrip(" ") for word in args if word.kind is Kind.TEXT]
            return base, listed(names)
        size = "".join(word.text for word in args)
        if base == "float" and size and "," not in size:
            return ("float" if int(size) <= 24 else "double"), ""
        if base in {"text", "blob"} and size:
            raise Unclear("a TEXT or BLOB with a length, whose type depends on it")
        if base == "decimal" and size and "," not in size:
            size += ",0"
        if base in {"time", "datetime", "timestamp"} and size == "0":
            size = ""
        return base, size or _DEFAULT_LENGTH.get(base, "")

    # ------------------------------------------------------------------------------------------------- attributes

    def _attribute(self) -> None:
        word = self._next().word
        match word:
            case "UNSIGNED" | "ZEROFILL":
                self._unsigned, self._zerofill = True, self._zerofill or word == "ZEROFILL"
            case "NULL":
                self._nullable = self._null_said = True
            case "NOT":
                self._next()
                self._nullable, self._null_said = False, True
            case "DEFAULT":
                self._read_default()
            case "AUTO_INCREMENT":
                self._counts = True
            case "AS":
                self._generated = f"({expression(self._parentheses())}) VIRTUAL"
            case "STORED" | "PERSISTENT":
                self._generated = self._generated.removesuffix("VIRTUAL") + "STORED"
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
            self._collation = self._server.collation(self._value())
            self._charset = charset_of(self._collation)
        else:
            if word == "CHARACTER":
                self._next()
            self._charset = self._server.charset(self._value())

    def _harmless(self, word: str) -> None:
        match word:
            case "SIGNED" | "VISIBLE" | "INVISIBLE" | "VIRTUAL" | "GENERATED" | "ALWAYS":
                pass
            case "COMMENT":
                self._comment = self._value()
            case "COLUMN_FORMAT" | "STORAGE" | "SRID" | "ENGINE_ATTRIBUTE" | "SECONDARY_ENGINE_ATTRIBUTE":
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
                self._update = self._function()
            case "REFERENCES":
                self._refers = self._server.refers
                self._at = len(self._words)  # nothing but the foreign key's own words can follow
            case _:
                raise Unclear(f"{word or 'a quoted word'} in a column's definition is not followed")

    def _value(self) -> str:
        self._accept("=")
        return self._next().text

    def _function(self) -> str:
        """A moment's name, or a function's, and its parentheses."""
        first = self._at
        self._next()
        if self._peek() == "(":
            self._parentheses()
        return literals.moment(self._words[first : self._at]) or expression(self._words[first : self._at])

    def _read_default(self) -> None:
        said = [self._words[self._at]] if self._at < len(self._words) else []
        self._default, self._computed, self._odd = None, "", False
        if self._peek() == "(":
            said = self._parentheses()
            self._odd = self._server.mariadb and _is_odd(said)
            if self._odd:
                return
            if not self._server.mariadb or not (literals.literal(said) or literals.moment(said)):
                self._computed = f"({expression(said)})"
                return
            self._computed = literals.moment(said)
            self._default = literals.literal(said)
            return
        sign = "-" if self._accept("-") else ""
        self._accept("+")
        token = self._next()
        self._default = literals.literal([token], sign)
        self._odd = _is_odd([token])
        if self._default is None and not self._odd and token.word != "NULL":
            self._at -= 1
            name = self._function()
            self._computed = name if name.startswith("CURRENT_TIMESTAMP") else f"({name})"


def _is_odd(words: list[Token]) -> bool:
    """0x41, 0b101: a number or a text, as the column has it."""
    return len(words) == 1 and words[0].kind is Kind.WORD and words[0].text[:1].isdigit()
