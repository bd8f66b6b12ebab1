"""The parts of ALTER TABLE, one by one."""

from __future__ import annotations

from syncd.model import Index, IndexPart, TableId
from syncd.sources.mysql.binlog import index_words, parts
from syncd.sources.mysql.binlog.actions import (
    Added,
    Changed,
    Defaulted,
    Dropped,
    Indexed,
    Reindexed,
    Renamed,
    Repartitioned,
    Step,
    Unindexed,
)
from syncd.sources.mysql.binlog.columns import Defined, define
from syncd.sources.mysql.binlog.cursor import Cursor
from syncd.sources.mysql.binlog.server import Unclear
from syncd.sources.mysql.binlog.tokens import Kind, Token

_OF_NAMES = parts.words("ORDER ENABLE DISABLE ANALYZE CHECK OPTIMIZE REBUILD FORCE")
"""They are followed by names, if by anything."""
_HARMLESS = _OF_NAMES | parts.words(
    "COMMENT DEFAULT CHARSET CHARACTER COLLATE ENGINE ROW_FORMAT AUTO_INCREMENT KEY_BLOCK_SIZE ALGORITHM LOCK "
    "COMPRESSION ENCRYPTION MAX_ROWS MIN_ROWS AVG_ROW_LENGTH CHECKSUM DELAY_KEY_WRITE PACK_KEYS NOWAIT WAIT "
    "STATS_AUTO_RECALC STATS_PERSISTENT STATS_SAMPLE_PAGES WITHOUT WITH PAGE_CHECKSUM TRANSACTIONAL PAGE_COMPRESSED "
    "PAGE_COMPRESSION_LEVEL ENCRYPTED SECONDARY_ENGINE ENGINE_ATTRIBUTE SECONDARY_ENGINE_ATTRIBUTE AUTOEXTEND_SIZE"
)
_PARTITIONING = parts.words("PARTITION COALESCE REORGANIZE")


def of_index(one: Defined) -> list[Step]:
    """The indexes that a column's own definition makes."""
    name = one.column.name
    found: list[Step] = [Indexed(Index("", (IndexPart(name),), "unique"))] if one.key == "unique" else []
    return [*found, Indexed(Index("", (IndexPart(name),)), foreign=True)] if one.refers else found


class Part(Cursor):
    """One part of ALTER TABLE, from its verb on."""

    def read(self) -> list[Step] | TableId:
        """What it does, in steps, or the table's new name. Unclear: it is not followed."""
        self._text = " ".join(word.text for word in self._words[:6])
        verb = self._peek()
        self._at += 1
        match verb:
            case "ADD":
                return self._add()
            case "DROP":
                return self._drop()
            case "RENAME":
                return self._rename()
            case "ALTER":
                return self._alter()
            case "CHANGE" | "MODIFY":
                return self._change(moves=verb == "CHANGE")
            case "REMOVE" if self._accept("PARTITIONING"):
                return [Repartitioned(gone=True)]
            case _ if verb in _PARTITIONING and not parts.moves_rows(self._words):
                return [Repartitioned()]
            case "CONVERT" if self._peek() == "TO":
                return [parts.table_options(self._words, self._server)]
            case _ if verb in _HARMLESS and not parts.moves_rows(self._words):
                return self._options() if verb not in _OF_NAMES else []
        raise Unclear(self._text)

    def _options(self) -> list[Step]:
        """Options of the table, and PARTITION BY behind them."""
        by = next((at for at, word in enumerate(self._words) if word.word == "PARTITION"), len(self._words))
        options: list[Step] = [parts.table_options(self._words[:by], self._server)]
        return [*options, Repartitioned()] if by < len(self._words) else options

    def _name(self) -> str:
        if self._at >= len(self._words) or self._words[self._at].kind not in {Kind.WORD, Kind.NAME}:
            raise Unclear(self._text)
        self._at += 1
        return self._words[self._at - 1].text

    def _rename(self) -> list[Step] | TableId:
        if self._peek() in {"INDEX", "KEY"} and len(self._words) > 3:
            self._at += 1
            lenient = self._accept("IF", "EXISTS")
            name = self._name()
            self._accept("TO")
            return [Reindexed(name, self._name(), lenient)]
        if self._accept("COLUMN"):
            lenient = self._accept("IF", "EXISTS")
            name = self._name()
            self._accept("TO")
            return [Renamed(name, self._name(), lenient)]
        _ = self._accept("TO") or self._accept("AS") or self._accept("=")
        return self._table()

    def _drop(self) -> list[Step]:
        if any(parts.primary(word) for word in self._words[self._at : self._at + 4]):
            raise Unclear(self._text)
        kind = self._peek()
        if kind in {"PARTITION", "SYSTEM", "PERIOD"} and len(self._words) > self._at + 1:
            raise Unclear(self._text)
        self._at += kind in parts.DROPPED_KEYS or kind == "COLUMN"
        self._at += kind == "FOREIGN"
        lenient = self._accept("IF", "EXISTS")
        name = self._name()
        if kind in {"FOREIGN", "CHECK"}:
            return []
        if kind in parts.DROPPED_KEYS:
            return [Unindexed(name, lenient, kind == "CONSTRAINT")]
        return [Dropped(name, lenient)]

    def _alter(self) -> list[Step]:
        """ALTER INDEX or ALTER COLUMN name SET DEFAULT, DROP DEFAULT, SET VISIBLE: rows and types stay."""
        if self._peek() in {"INDEX", "KEY"}:
            self._at += 1
            lenient = self._accept("IF", "EXISTS")
            name = self._name()
            return [Reindexed(name, name, lenient)]
        if self._peek() in {"CHECK", "CONSTRAINT"}:
            return []
        self._accept("COLUMN")
        lenient = self._accept("IF", "EXISTS")
        name = self._name()
        if self._accept("DROP", "DEFAULT"):
            return [Defaulted(name, None, lenient)]
        if self._accept("SET", "DEFAULT") and self._at < len(self._words):
            return [Defaulted(name, tuple(self._words[self._at :]), lenient)]
        if self._peek() == "SET" and self._words[-1].word in {"VISIBLE", "INVISIBLE"}:
            return []
        raise Unclear(self._text)

    def _change(self, *, moves: bool) -> list[Step]:
        self._accept("COLUMN")
        lenient = self._accept("IF", "EXISTS")
        name = self._name() if moves else self._words[self._at].text if self._at < len(self._words) else ""
        rest, after = self._placed()
        defined = define(rest, self._server)
        if defined.key == "primary":
            raise Unclear(self._text)
        return [Changed(name, defined, after, lenient), *of_index(defined)]

    def _placed(self) -> tuple[list[Token], str | None]:
        """The definition that follows, and where the column is to stand; see `Added`."""
        rest = self._words[self._at :]
        if rest and rest[-1].word == "FIRST":
            return rest[:-1], ""
        if len(rest) > 2 and rest[-2].word == "AFTER":
            return rest[:-2], rest[-1].text
        return rest, None

    def _add(self) -> list[Step]:
        if self._at < len(self._words) and parts.no_column(self._words[self._at :]):
            words = [word.word for word in self._words[self._at : self._at + 4]]
            if words[0] == "PARTITION":
                return [Repartitioned()]
            if words[0] in {"PERIOD", "SYSTEM"} or "PRIMARY" in words[:3]:
                raise Unclear(self._text)
            found = index_words.index(self._words[self._at :], self._server)
            return [] if found is None else [found]
        self._accept("COLUMN")
        lenient = self._accept("IF", "NOT", "EXISTS")
        if self._peek() == "(":
            steps: list[Step] = []
            for part in parts.split(self._words[self._at + 1 : -1]):
                if parts.no_column(part):
                    if "PRIMARY" in [word.word for word in part[:3]] or part[0].word in {"PERIOD", "SYSTEM"}:
                        raise Unclear(self._text)
                    found = index_words.index(part, self._server)
                    steps += [] if found is None else [found]
                else:
                    steps += self._added(part, None, lenient=lenient)
            return steps
        return self._added(*self._placed(), lenient=lenient)

    def _added(self, words: list[Token], after: str | None, *, lenient: bool) -> list[Step]:
        one = define(words, self._server)
        if one.key == "primary":
            raise Unclear(self._text)
        return [Added(one, after, lenient), *of_index(one)]
