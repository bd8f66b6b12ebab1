"""Tables as information_schema tells them, turned into `TableSchema`s; what syncd cannot take is refused by name."""

# ruff: noqa: S608 - names are quoted, values are literals of ours

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import pyarrow as pa

from syncd.drivers.mysql.faults import code_of
from syncd.errors import FatalError, TransientError, Unsupported
from syncd.model import Column, Finding, TableId, TableSchema
from syncd.sources.mysql import cascades, collation, later, triggers, types
from syncd.sources.mysql.connect import Connection, Row, Server, per_table, quoted, rows, server
from syncd.sources.mysql.created import Created, created
from syncd.sources.mysql.grants import granted, may_lock
from syncd.sources.mysql.indexes import Indexes, UniqueIndex, indexes
from syncd.spi import Found, Later

SYSTEM = ("mysql", "sys", "information_schema", "performance_schema")
TWIN = "_key_{}"

_ROUNDS = 5
_GONE = {1146, 1051, 1049}
_NAMES = f"SELECT table_schema, table_name FROM information_schema.tables WHERE table_schema NOT IN {SYSTEM}"
_TABLES = (
    "SELECT table_schema, table_name, table_type, engine, table_rows, data_length, table_comment, table_collation, "
    "auto_increment "
    "FROM information_schema.tables WHERE {where}"
)
_NOW = re.compile(r"(?:current_timestamp|now)(\(\d*\))?", re.IGNORECASE)
_ESCAPED = {"0": "\0", "b": "\b", "n": "\n", "r": "\r", "t": "\t", "Z": "\x1a"}
_NUMBER = re.compile(r"^-?\d+(\.\d+)?(e[+-]?\d+)?$", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class _Table:
    id: TableId
    kind: str
    engine: str
    rows: int
    bytes: int
    comment: str
    collation: str
    counter: int


@dataclass(frozen=True, slots=True)
class Rules:
    """`refusal`: why a key column cannot be normalised, "" when it can. `version`: the seq of a head, now.

    `zero_is_null`: date columns may give null where the source has a zero date, so they are nullable here.
    `cascades`: a table whose rows a cascade may change unseen is refused ("fail"), or taken with a warning ("ignore").
    """

    refusal: Callable[[Column], str]
    version: Callable[[], int]
    zero_is_null: bool = False
    cascades: str = "fail"


def tables(connection: Connection, wanted: Callable[[TableId], bool], rules: Rules) -> Sequence[Found]:
    """The wanted tables, read while their metadata is locked against DDL, and a head's seq found meanwhile.

    TransientError: tables come and go faster than they can be read.
    """
    for _ in range(_ROUNDS):
        ids = _names(connection, wanted)
        found = _locked(connection, _listed(connection, ids), rules)
        if found is not None and [f.schema.table for f in found] == _names(connection, wanted):
            return found
    raise TransientError("tables are being created and dropped faster than they can be read", retry_after=5.0)


def is_sequence(connection: Connection, table: TableId) -> bool:
    """Whether the name is a sequence's, now: the log has rows of it as if it were a table."""
    kinds = per_table(connection, _TABLES, [table])
    return any(row[2] == "SEQUENCE" for row in kinds)


def _names(connection: Connection, wanted: Callable[[TableId], bool]) -> list[TableId]:
    return sorted(table for table in (TableId(*row) for row in rows(connection, _NAMES)) if wanted(table))


def _listed(connection: Connection, ids: Sequence[TableId]) -> list[_Table]:
    """What the server says of the tables. It opens each of them to answer: so only of those that are wanted."""
    found = per_table(connection, _TABLES, ids)
    listed = [
        _Table(TableId(r[0], r[1]), r[2], r[3] or "", int(r[4] or 0), int(r[5] or 0), r[6] or "", r[7] or "", r[8] or 0)
        for r in found
    ]
    return sorted(listed, key=lambda table: table.id)


def _locked(connection: Connection, listed: Sequence[_Table], rules: Rules) -> Sequence[Found] | None:
    """None when a table vanished while it was being locked."""
    rows(connection, "START TRANSACTION")
    try:
        for table in listed:
            if "VIEW" not in table.kind:
                # Opening a table in a transaction keeps DDL on it waiting until the transaction ends.
                rows(connection, f"SELECT 1 FROM {quoted(*table.id)} LIMIT 0", table=str(table.id))
        ids = [t.id for t in listed if "VIEW" not in t.kind]
        texts = {table: created(connection, table) for table in ids}
        unseen = cascades.silent(connection, texts)
        of_server = _Read(
            rules,
            rules.version(),
            server(connection),
            granted(connection),
            unseen,
            _columns(connection, listed),
            indexes(connection, ids),
            texts,
            triggers.statements(connection, ids),
        )
        return [_found(t, of_server) for t in listed]
    except FatalError as error:
        if code_of(error.__cause__ or error) in _GONE:
            return None
        raise
    finally:
        rows(connection, "ROLLBACK")


def _columns(connection: Connection, listed: Sequence[_Table]) -> Mapping[TableId, list[Row]]:
    sql = (
        "SELECT table_schema, table_name, column_name, column_default, is_nullable, column_type, character_set_name, "
        "collation_name, extra, column_comment FROM information_schema.columns WHERE {where} "
        "ORDER BY table_schema, table_name, ordinal_position"
    )
    found: dict[TableId, list[Row]] = {}
    for row in per_table(connection, sql, [t.id for t in listed]):
        found.setdefault(TableId(row[0], row[1]), []).append(row[2:])
    return found


@dataclass(frozen=True, slots=True)
class _Read:
    rules: Rules
    version: int
    at: Server
    grants: str
    unseen: Mapping[TableId, list[str]]
    columns: Mapping[TableId, list[Row]]
    indexes: Mapping[TableId, Indexes]
    created: Mapping[TableId, Created]
    triggers: Mapping[TableId, list[str]]


def _found(table: _Table, read: _Read) -> Found:
    refusals = [*_table_refusals(table), *_cascades(table, read)]
    known, text = read.indexes.get(table.id, Indexes()), read.created.get(table.id, Created())
    key = next((index for index in known.keys if not index.nullable), None)
    made: list[Column] = []
    for row in read.columns.get(table.id, []):
        column, refusal = _column(row, read, text, in_key=key is not None and row[0] in key.columns)
        made.append(column)
        refusals += [refusal] if refusal else []
    if key is not None and not refusals:
        by_name = {column.name: column for column in made}
        for name in key.columns:
            twin, refusal = _twin(by_name[name], read.rules)
            made += [twin] if twin else []
            refusals += [refusal] if refusal else []
    kind = "" if key is None else "primary" if key.name == "PRIMARY" else "unique"
    schema = TableSchema(
        table.id,
        read.version,
        tuple(made),
        key.columns if key else (),
        kind,
        table.comment,
        known.besides(key),
        read.at.flavour,
        table.collation,
        text.partitions,
    )
    aside = "VIEW" in table.kind or table.kind == "SEQUENCE"
    findings = tuple(_findings(table, key, made, read))
    return Found(schema, table.rows, table.bytes, tuple(refusals), findings, aside, tuple(_later(table, schema, read)))


def _later(table: _Table, schema: TableSchema, read: _Read) -> Iterator[Later]:
    if table.counter:
        counted = tuple(column.name for column in schema.columns if column.filled == "AUTO_INCREMENT")
        yield later.counter(table.id, table.counter, counted)
    text = read.created.get(table.id, Created())
    yield from (later.foreign_key(table.id, key) for key in text.foreign)
    yield from (later.check(table.id, check) for check in text.checks)
    yield from (later.trigger(table.id, text) for text in read.triggers.get(table.id, []))


def with_twins(schema: TableSchema, rules: Rules) -> TableSchema:
    """The schema with the twins that its key needs. Unsupported: a key column cannot be one, by name."""
    twins: list[Column] = []
    for name in schema.key:
        twin, refusal = _twin(schema.column(name), rules)
        if refusal:
            raise Unsupported(f"table {schema.table}: {refusal}", table=str(schema.table), code="E188")
        twins += [twin] if twin else []
    known = {column.name for column in schema.columns}
    return replace(schema, columns=(*schema.columns, *(twin for twin in twins if twin.name not in known)))


def _table_refusals(table: _Table) -> list[str]:
    if "VIEW" in table.kind:
        return ["it is a view, which has no rows in the log"]
    if table.kind == "SEQUENCE":
        return ["it is a sequence"]
    if table.kind == "SYSTEM VERSIONED":
        return ["it is system versioned: its history rows share their key with the row itself"]
    return []


def _cascades(table: _Table, read: _Read) -> list[str]:
    if read.rules.cascades == "ignore":
        return []
    return [
        f"{key} changes its rows without a trace in the log (policy `cascades`)"
        for key in read.unseen.get(table.id, [])
    ]


def _findings(table: _Table, key: UniqueIndex | None, columns: Sequence[Column], read: _Read) -> list[Finding]:
    found: list[Finding] = []
    name = str(table.id)
    if table.engine and table.engine.lower() not in {"innodb", "rocksdb"} and table.kind != "VIEW":
        text = f"engine {table.engine} has no transactions: after a crash the table and the log may differ"
        found.append(Finding("warning", name, text, f"ALTER TABLE {quoted(*table.id)} ENGINE = InnoDB"))
    if read.rules.cascades == "ignore":
        for unseen in read.unseen.get(table.id, []):
            text = f"{unseen} changes rows without a trace in the log: the copy will differ there"
            found.append(Finding("warning", name, text, "`syncd reconcile` finds them; or delete the rows one by one"))
    if key is None:
        return [*found, *_keyless(table, read)]
    unordered = [c.name for c in columns if c.name in key.columns and not ordered(c)]
    if key.down is None:
        found.append(Finding("warning", name, "its key's index ascends and descends: it is read as one chunk"))
    elif unordered:
        text = f"key column {unordered[0]} has an order that only the server knows: it is read as one chunk"
        found.append(Finding("warning", name, text))
    return found


def _keyless(table: _Table, read: _Read) -> list[Finding]:
    """How `keyless: append` reads the table, and what it lacks for that."""
    if read.at.mariadb or table.engine.lower() != "innodb":
        return []
    name = str(table.id)
    text = "it has no key: `keyless: append` locks it for a moment (LOCK TABLES), to know which rows are in the log yet"
    found = [Finding("ok", name, text)]
    if not may_lock(read.grants, table.id.database):
        todo = f"GRANT LOCK TABLES ON {quoted(table.id.database)}.* TO the user of the source"
        found.append(Finding("warning", name, "`keyless: append` lacks the grant LOCK TABLES", todo))
    return found


def ordered(column: Column) -> bool:
    """Whether the column's values, as syncd sees them, have the order that an index over it has."""
    return not pa.types.is_floating(column.type) and types.base_type(column.source_type) not in {"enum", "set", "json"}


def _column(row: Row, read: _Read, text: Created, *, in_key: bool) -> tuple[Column, str]:
    """The column, and why it is refused ("" if it is not)."""
    name, default, nullable, kind, charset, collate, extra, comment = row
    arrow = types.arrow_type(kind, charset or "")
    column = Column(
        name,
        # of a refused table only the schema itself is made, which has no place for a null type that is NOT NULL
        arrow if arrow is not None else pa.binary(),
        nullable == "YES" or (read.rules.zero_is_null and types.base_type(kind) in types.DATES and not in_key),
        kind,
        charset or "",
        collate or "",
        _default(default, extra, read.at),
        comment or "",
        generated=text.generated.get(name, ""),
        filled=_filled(text.defaults.get(name, ""), default or "NULL", extra, read.at),
    )
    if arrow is None:
        what = f"character set {charset}" if charset and charset not in types.CHARSETS else f"type {kind}"
        return column, f"column {name}: {what} is not supported"
    if "compressed" in kind.lower():
        return column, f"column {name}: compressed columns are not supported"
    return column, ""


def _default(default: str | None, extra: str, at: Server) -> str | None:
    """The constant a new row gets, as text; None for none, NULL, and what is computed."""
    if default is None or "GENERATED" in extra.upper():
        return None
    if not at.mariadb:
        return default
    if default.startswith("'") and default.endswith("'"):
        return re.sub(r"''|\\(.)", lambda m: _ESCAPED.get(m[1], m[1] or "'"), default[1:-1], flags=re.DOTALL)
    return default if _NUMBER.match(default) or default.startswith("b'") else None


def _filled(expression: str, default: str, extra: str, at: Server) -> str:
    """How a value that is not given comes about, where that is no constant; see `Column.filled`."""
    if "auto_increment" in extra.lower():
        return "AUTO_INCREMENT"
    moment = _NOW.fullmatch(default)
    if at.mariadb and not moment and default != "NULL" and _default(default, extra, at) is None:
        expression = f"({default})"
    clauses = [f"DEFAULT {expression}" if expression else f"DEFAULT {_moment(moment)}" if moment else ""]
    change = re.search(r"on update (.*)", extra, re.IGNORECASE)
    moment = _NOW.match(change[1]) if change else None
    clauses += [f"ON UPDATE {_moment(moment)}"] if moment else []
    return " ".join(filter(None, clauses))


def _moment(found: re.Match[str]) -> str:
    return f"CURRENT_TIMESTAMP{found[1] or ''}".removesuffix("()")


def _twin(column: Column, rules: Rules) -> tuple[Column | None, str]:
    """The normalised twin of a key column, if it needs one; or why it cannot be a key."""
    if pa.types.is_floating(column.type):
        return None, f"key column {column.name}: {column.source_type} cannot be compared exactly; no key for syncd"
    if types.base_type(column.source_type) == "enum" and "" in types.members(column.source_type):
        return None, f"key column {column.name}: its ENUM's member '' and the server's error value are one text; no key"
    if not collation.needs_twin(column):
        return None, ""
    why = rules.refusal(column)
    if why:
        return None, f"key column {column.name}: {why}"
    return Column(TWIN.format(column.name), pa.binary(), column.nullable, normal_of=column.name), ""
