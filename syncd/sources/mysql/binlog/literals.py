"""What rows that are there get of an added column: out of its definition, where that says it beyond doubt.

The servers convert a default as they convert any value: they pad, strip, round, count members and read short years,
each in its own way. So a literal is taken only in the form that the column itself gives back; any other is unknown.
The servers refuse literals that do not fit, so that what is out of range never comes here.
"""

from __future__ import annotations

import re
import unicodedata
from datetime import date, datetime, timedelta
from itertools import pairwise

from syncd.sources.mysql.binlog.tokens import Kind, Token
from syncd.sources.mysql.types import BINARIES, INTEGERS, TEXTS, arguments, base_type, members

_INTEGER = re.compile(r"0|-?[1-9]\d*")
_DECIMAL = re.compile(r"-?(?:0|[1-9]\d*)(?:\.(\d+))?")
_MOMENT = re.compile(r"(\d{4}-\d\d-\d\d)(?: (\d\d:\d\d:\d\d)(?:\.(\d{1,6}))?)?")
_TIME = re.compile(r"-?(\d{2,3}):[0-5]\d:[0-5]\d(?:\.(\d{1,6}))?")
_YEAR = re.compile(r"19[1-9]\d|190[1-9]|20\d\d|21[0-4]\d|215[0-5]")
_BITS = re.compile(r"b'([01]+)'")
_HEX = re.compile(r"x'((?:[0-9a-f]{2})*)'")
_OFFSET = re.compile(r"([+-])(\d{1,2}):(\d\d)")
_NOW = {"CURRENT_TIMESTAMP", "NOW", "LOCALTIME", "LOCALTIMESTAMP"}
_EXACT_DIGITS = 15
"""Of a decimal number that any correct way of reading gives the same double for."""
_TINY = 255
_LOST = "\ufffd"


def literal(words: list[Token], sign: str = "") -> tuple[Token, str] | None:
    """A constant and its sign; None for anything else."""
    if words and words[0].word in {"-", "+"}:
        sign, words = words[0].word.strip("+"), words[1:]
    if len(words) != 1:
        return None
    token = words[0]
    if token.word in {"TRUE", "FALSE"}:
        token = Token(Kind.NUMBER, str(int(token.word == "TRUE")))
    return (token, sign) if token.kind in {Kind.TEXT, Kind.NUMBER} else None


def moment(words: list[Token]) -> str:
    """CURRENT_TIMESTAMP by any of its names, "" for anything else."""
    if not words or words[0].word not in _NOW:
        return ""
    digits = [word.text for word in words if word.kind is Kind.NUMBER and word.text != "0"]
    return f"CURRENT_TIMESTAMP({digits[0]})" if digits else "CURRENT_TIMESTAMP"


def constant(kind: str, token: Token, sign: str = "") -> str | None:
    """The value of this default in a column of type `kind`, as `Column.default` has it; None: not surely known.

    A TIMESTAMP comes out in the session's time zone (`in_zone`).
    """
    base, number = base_type(kind), token.kind is Kind.NUMBER
    given = sign + token.text
    if _LOST in given or (sign and not number):
        return None
    if base in INTEGERS:
        return given if _INTEGER.fullmatch(given) else None
    if base in {"decimal", "float", "double"}:
        return given if _is_exact(base, arguments(kind), given) else None
    if base == "year":
        return given if _YEAR.fullmatch(given) else None
    if base == "bit":
        return _bit(given, int(arguments(kind))) if number else None
    if base in BINARIES:
        return _binary(base, arguments(kind), given, number=number)
    if base in TEXTS:
        return _text(base, arguments(kind), given, number=number)
    return None if number else _named(base, kind, given)


def implicit(kind: str) -> str | None:
    """What a NOT NULL column without DEFAULT gets, where that is not simply 0 or the empty text; None where it is."""
    base = base_type(kind)
    if base == "binary":
        return "0x" + "00" * int(arguments(kind))
    return members(kind)[0] if base == "enum" else None


def in_zone(moment: str, zone: str) -> str | None:
    """A TIMESTAMP's default in UTC; `zone`: the session's, "" if unknown. None where it is no plain offset."""
    found = _OFFSET.fullmatch(zone)
    if found is None:
        return None
    away = timedelta(hours=int(found[2]), minutes=int(found[3]))
    local = datetime.fromisoformat(moment)
    return str(local - away if found[1] == "+" else local + away)


def _is_exact(base: str, args: str, given: str) -> bool:
    found = _DECIMAL.fullmatch(given)
    if found is None or (given.startswith("-") and not given.strip("-0.")):
        return False
    fraction = found[1] or ""
    if base == "decimal":
        return len(fraction) <= int(args.partition(",")[2] or 0)
    return len(given) <= _EXACT_DIGITS and not (args and fraction)


def _bit(given: str, size: int) -> str | None:
    bits = _BITS.fullmatch(given)
    if bits is None and not _INTEGER.fullmatch(given):
        return None
    value = int(bits[1], 2) if bits else int(given)
    return str(value) if 0 <= value < 1 << size else None


def _binary(base: str, args: str, given: str, *, number: bool) -> str | None:
    """As 0x and two digits a byte. Bytes of a text depend on the client's character set beyond ASCII."""
    found = _HEX.fullmatch(given) if number else None
    if number and found is None:
        return None
    if not number and not given.isascii():
        return None
    data = bytes.fromhex(found[1]) if found else given.encode()
    if len(data) > int(args or _TINY):
        return None
    return "0x" + (data.ljust(int(args), b"\0") if base == "binary" else data).hex()


def _text(base: str, args: str, given: str, *, number: bool) -> str | None:
    if number and not _INTEGER.fullmatch(given):
        return None
    if base == "char":
        given = given.rstrip(" ")
    size = len(given) if args else len(given.encode())
    return given if size <= int(args or _TINY) else None


def _named(base: str, kind: str, given: str) -> str | None:
    """Members, dates and times, all of which are written as texts."""
    if base in {"enum", "set"}:
        return given if _are_members(members(kind), given, several=base == "set") else None
    found = (_TIME if base == "time" else _MOMENT).fullmatch(given)
    if found is None:
        return None
    if base == "time":
        negative_zero = given.startswith("-") and not given.strip("-0:.")
        return None if negative_zero or len(found[2] or "") > int(arguments(kind) or 0) else given
    if base not in {"date", "datetime", "timestamp"} or len(found[3] or "") > int(arguments(kind) or 0):
        return None
    try:
        if base == "date":
            return None if found[2] else date.fromisoformat(given).isoformat()
        return str(datetime.fromisoformat(given))
    except ValueError:
        return None


def _are_members(names: list[str], given: str, *, several: bool) -> bool:
    """Exactly, and in the order of the definition. Members that a collation may take for each other are not sure."""
    if len({_folded(name) for name in names}) < len(names):
        return False
    wanted = (given.split(",") if given else []) if several else [given]
    if not set(wanted) <= set(names):
        return False
    places = [names.index(name) for name in wanted]
    return all(one < other for one, other in pairwise(places))


def _folded(name: str) -> str:
    plain = unicodedata.normalize("NFKD", name.casefold())
    return "".join(c for c in plain if not unicodedata.combining(c))
