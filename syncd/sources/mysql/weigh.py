"""A collation's weights, asked of the server: each character's, each contraction's, and a proof by random texts."""

# ruff: noqa: S608 - names are quoted, values are literals of ours

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from syncd.drivers.mysql.faults import mapped
from syncd.errors import Unsupported
from syncd.sources.mysql.binlog.arrays import Views
from syncd.sources.mysql.connect import Connection, rows, server
from syncd.sources.mysql.snapshot.protocol import Statement
from syncd.sources.mysql.snapshot.values import lengths
from syncd.sources.mysql.weights import Level, Weights

_POINTS = 0x110000
_BLOCK = 65536
_DIGITS = " UNION ALL ".join(f"SELECT {n}{' AS n' if n == 0 else ''}" for n in range(16))
_NUMBERS = (
    f"(SELECT a.n + 16 * b.n + 256 * c.n + 4096 * d.n AS n FROM {', '.join(f'({_DIGITS}) {x}' for x in 'abcd')}) n"
)

# Unicode's default table (DUCET 14) begins its contractions with these, and goes on with a combining mark or with a
# character of the same script.
_HEADS = (
    "418 438 627 648 64a 9c7 b47 b92 bc6 bc7 c46 cbf cc6 cca d46 d47 dd9 ddc e40 e41 e42 e43 e44 e4d ec0 ec1 ec2 ec3 "
    "ec4 ecd f71 fb2 fb3 1025 19b5 19b6 19b7 19ba 1b05 1b07 1b09 1b0b 1b0d 1b11 1b3a 1b3c 1b3e 1b3f 1b42 aab5 aab6 "
    "aab9 aabb aabc 11131 11132 11347 114b9 115b8 115b9 11935"
)
_COMBINING = range(0x0300, 0x0370)
_IGNORED = "\x01"
"""Weighs nothing, and parts a contraction."""

_SAMPLE = (
    "aAbz09 -_.'\t\n\x00\x01\u00a0äÄßéÆøÿŁ\u00ad\u0301\u0308\u0306"
    "αΩςиИйЯ\u0621ا\u0654กเแ中文日本한가\uff21ｱ\u3042ア\ue000\ufffd"
)
_BEYOND_BMP = "😀𝒜\U0001f1e6\U00020000\U000e0001\U0010ffff"


_Pairs = tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.uint8]]


class Weigher:
    """Asks one server for one collation's weights. `levels`: what it compares: (1,), (1, 2), (1, 3) or (1, 2, 3)."""

    def __init__(self, connection: Connection, charset: str, collation: str, levels: Sequence[int]) -> None:
        self._connection = connection
        self._charset, self._collation, self._levels = charset, collation, levels
        self._mariadb = server(connection).mariadb

    def wide(self, unit: int, pad: bool, contractions: bool) -> Weights:
        """A Unicode character set: all its code points."""
        points = _POINTS if self._charset == "utf8mb4" else _BLOCK
        text = f"CONVERT(CHAR({{base}} + n.n USING utf32) USING {self._charset}) COLLATE {self._collation}"
        found: list[list[_Pairs]] = [[] for _ in self._asked]
        for base in range(0, points, _BLOCK):
            for asked, part in zip(self._asked, found, strict=True):
                sql = f"SELECT n.n, {self._weight(text.format(base=base), asked)} FROM {_NUMBERS}"
                part += [(at + base, sizes, data) for at, sizes, data in self._pairs(sql)]
        tables = [_table(part, points) for part in found]
        known = np.ones(points, np.bool_)
        known[0xD800:0xE000] = False
        if len(self._levels) > 1 and not self._mariadb:
            tables = _split(tables[0], len(self._levels))
        made = Weights(unit, (), tuple(tables), known)
        more = self._contractions(made) if contractions else {}
        made = Weights(unit, _space(made, unit) if pad else (), made.levels, known, more)
        self._prove(made, _SAMPLE + ("" if points == _BLOCK else _BEYOND_BMP) + "".join(more))
        return made

    def narrow(self, pad: bool) -> Weights:
        """A character set of one byte: its 256 characters."""
        text = f"CONVERT(CHAR(n.n USING {self._charset}) USING utf32)"
        weight = self._weight(f"CHAR(n.n USING {self._charset}) COLLATE {self._collation}", 0)
        sql = f"SELECT n.n, HEX({text}), HEX({weight})"
        chars: dict[int, bytes] = {}
        for number, point, weight in rows(self._connection, f"{sql} FROM {_NUMBERS} WHERE n.n < 256"):
            if point and (number == 0x3F or int(point, 16) != 0x3F):
                chars[int(point, 16)] = bytes.fromhex(weight)
        size = max(chars) + 1
        known = np.zeros(size, np.bool_)
        known[list(chars)] = True
        level = _level([chars.get(point, b"") for point in range(size)])
        made = Weights(1, (), (level,), known)
        made = Weights(1, _space(made, 1) if pad else (), made.levels, known)
        self._prove(made, "".join(map(chr, chars)))
        return made

    @property
    def _asked(self) -> Sequence[int]:
        """One question a level: MariaDB has no mark between the levels of a weight, but gives each level alone."""
        return self._levels if self._mariadb and len(self._levels) > 1 else (0,)

    def _weight(self, text: str, level: int) -> str:
        return f"WEIGHT_STRING({text}{f' LEVEL {level}' if level else ''})"

    def _pairs(self, sql: str) -> Iterator[_Pairs]:
        """Rows of (number, bytes): numbers, lengths, and all bytes in a row; NULL counts as no bytes."""
        with mapped(f"mysql source at {self._connection.host}:{self._connection.port}"):
            statement = Statement(self._connection, sql)
            width = "<u4" if statement.fields[0].code == 3 else "<i8"
            for window in statement.windows(65536):
                views = Views(window.data)
                null = (views.data[window.starts] & 8).astype(np.bool_)
                at = window.starts + 1
                number = views.at(width, at).astype(np.int64)
                begin, size = lengths(views, np.where(null, 0, at + int(width[2])))
                size[null] = 0
                ends = np.cumsum(size)
                index = np.repeat(begin - (ends - size), size) + np.arange(int(ends[-1]) if len(ends) else 0)
                yield number, size, views.data[index]

    def _contractions(self, single: Weights) -> dict[str, tuple[bytes, ...]]:
        pairs: list[str] = []
        for code in (int(text, 16) for text in _HEADS.split()):
            block = range(code & ~255, (code | 255) + 1)
            pairs += self._bound([chr(code)], [chr(c) for c in (*_COMBINING, *block)])
        seconds = sorted({pair[1] for pair in pairs})
        texts = pairs + [text for pair in pairs for text in self._bound([pair], _near(pair, seconds))]
        return dict(zip(texts, self._weigh(texts), strict=True))

    def _bound(self, heads: Sequence[str], tails: Sequence[str]) -> list[str]:
        """Each head followed by a tail that weighs otherwise than the two apart."""
        found: list[str] = []
        texts = [head + tail for head in heads for tail in tails]
        apart = [head + _IGNORED + tail for head in heads for tail in tails]
        for start in range(0, len(texts), 2000):
            part = texts[start : start + 2000]
            together, parted = self._weigh(part), self._weigh(apart[start : start + 2000])
            found += [text for text, one, two in zip(part, together, parted, strict=True) if one != two]
        return found

    def _weigh(self, texts: Sequence[str]) -> list[tuple[bytes, ...]]:
        """The server's weights of whole texts, level by level."""
        if not texts:
            return []
        said = [[_of(text) for text in self._said(texts, level)] for level in self._asked]
        if len(self._levels) > 1 and not self._mariadb:
            return [tuple(_cut(whole, len(self._levels))) for whole in said[0]]
        return list(zip(*said, strict=True))

    def _said(self, texts: Sequence[str], level: int) -> Iterator[str | None]:
        """HEX of each text's weight."""
        for start in range(0, len(texts), 500):
            literals = (f"_utf8mb4 x'{text.encode().hex()}'" for text in texts[start : start + 500])
            asked = (f"CONVERT({text} USING {self._charset}) COLLATE {self._collation}" for text in literals)
            # One row of many columns: a UNION of many rows would cut long weights off.
            yield from rows(
                self._connection, "SELECT " + ", ".join(f"HEX({self._weight(text, level)})" for text in asked)
            )[0]

    def _prove(self, made: Weights, characters: str) -> None:
        """Compare the sums of single characters with the server's weights of random texts. Unsupported: they differ."""
        rng = random.Random(1)  # noqa: S311 - a sample, not a secret
        texts = ["".join(rng.choices(characters, k=rng.randint(1, 12))) for _ in range(600)]
        for text, theirs in zip(texts, self._weigh(texts), strict=True):
            if made.plain(text) != theirs:
                raise Unsupported(
                    f"collation {self._collation}: {text!r} does not weigh what its characters weigh",
                    hint="use another collation for the key, or leave the table out",
                    code="E188",
                )


def _near(text: str, others: Sequence[str]) -> list[str]:
    """Those of `others` that are of the same block of 256 as the text's first character."""
    return [other for other in others if ord(other) >> 8 == ord(text[0]) >> 8]


def _of(text: str | None) -> bytes:
    return bytes.fromhex(text or "")


def _space(weights: Weights, unit: int) -> tuple[int, ...]:
    spaces = [level.weight(" ") for level in weights.levels]
    assert all(len(space) == unit for space in spaces)
    return tuple(int.from_bytes(space, "big") for space in spaces)


def _level(chars: Sequence[bytes]) -> Level:
    offsets = np.concatenate(([0], np.cumsum([len(c) for c in chars]))).astype(np.int32)
    return Level(offsets, np.frombuffer(b"".join(chars), np.uint8))


def _table(parts: Sequence[_Pairs], points: int) -> Level:
    """One level from rows in any order."""
    numbers = np.concatenate([number for number, _, _ in parts])
    sizes = np.concatenate([size for _, size, _ in parts])
    data = np.concatenate([data for _, _, data in parts])
    assert len(numbers) == points
    order = np.argsort(numbers, kind="stable")
    begin = (np.cumsum(sizes) - sizes)[order]
    size = sizes[order]
    ends = np.cumsum(size)
    index = np.repeat(begin - (ends - size), size) + np.arange(int(ends[-1]))
    return Level(np.concatenate(([0], ends)).astype(np.int32), data[index])


def _cut(whole: bytes, levels: int) -> list[bytes]:
    """MySQL's weights of several levels, which 0x0000 parts."""
    parts = [bytearray()]
    for at in range(0, len(whole), 2):
        if whole[at : at + 2] == b"\0\0":
            parts.append(bytearray())
        else:
            parts[-1] += whole[at : at + 2]
    parts += [bytearray()] * (levels - len(parts))
    return [bytes(part) for part in parts]


def _split(table: Level, levels: int) -> list[Level]:
    """`_cut` for all code points at once."""
    units, count = table.data.view(">u2"), len(table.offsets) - 1
    owner = np.repeat(np.arange(count), np.diff(table.offsets) // 2)
    mark = units == 0
    marks = np.concatenate(([0], np.cumsum(mark)))
    level = marks[1:] - marks[table.offsets[:-1] // 2][owner]
    made: list[Level] = []
    for number in range(levels):
        own = ~mark & (level == number)
        ends = np.cumsum(np.bincount(owner[own], minlength=count) * 2)
        made.append(Level(np.concatenate(([0], ends)).astype(np.int32), units[own].view(np.uint8)))
    return made
