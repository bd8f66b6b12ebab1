"""Reading back: the live rows of a key range, page by page in key order, as the Arrow types they were written with."""

# ruff: noqa: S608 - names are quoted, values are literals

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.types as pat

from syncd.drivers.mysql.connection import Connection, place, quoted
from syncd.drivers.mysql.faults import mapped
from syncd.drivers.mysql.types import base_type
from syncd.errors import FatalError
from syncd.model import Column, KeyValue, column_of, plain
from syncd.sinks.mysql.layout import Layout
from syncd.sinks.mysql.values import key_literals
from syncd.sinks.mysql.words import DELETED, full_name

Key = tuple[KeyValue, ...]


def scan(
    connection: Connection, of: Layout, lower: Key | None, upper: Key | None, page: int
) -> Iterator[pa.RecordBatch]:
    """Each page is a statement of its own, so that nothing stays open between two of them.

    `lower`, `upper`: values of the table's key columns as it has them. Rows without a key come in one answer.
    """
    doing = f"{place(connection)}, scanning {full_name(of.target)}"
    names = ", ".join(_selected(column) for column in of.columns)
    order = ", ".join(quoted(name) for name in of.key)
    while True:
        where = _where(of, lower, upper)
        sql = f"SELECT {names} FROM {full_name(of.target)}{where}"
        if of.key:
            sql += f" ORDER BY {order} LIMIT {page}"
        with mapped(doing, str(of.target.schema.table)):
            found = _fetched(connection, sql)
        if found:
            yield _batch(of, found)
        if not of.key or len(found) < page:
            return
        lower = _key_of(of, found[-1])


def _selected(column: Column) -> str:
    """A FLOAT's text has too few digits, and a BIT's is bytes."""
    name, base = quoted(column.name), base_type(column.source_type)
    if base == "bit":
        return f"{name} + 0"
    return f"{name} * 1e0" if pat.is_float32(column.type) else name


def _fetched(connection: Connection, sql: str) -> Sequence[tuple[Any, ...]]:
    """Every value as text or bytes, NULL as None."""
    decoders, connection.decoders = connection.decoders, {}
    try:
        with connection.cursor() as cursor:
            cursor.execute(sql)
            found: Sequence[tuple[Any, ...]] = cursor.fetchall()
            return found
    finally:
        connection.decoders = decoders


def _where(of: Layout, lower: Key | None, upper: Key | None) -> str:
    conditions = [f"{quoted(DELETED)} = 0"] if of.soft else []
    conditions += [own_rows(of)] if of.target.own else []
    if lower is not None:
        conditions.append(_bound(of, lower, ">", ">"))
    if upper is not None:
        conditions.append(_bound(of, upper, "<", "<="))
    return f" WHERE {' AND '.join(conditions)}" if conditions else ""


def own_rows(of: Layout) -> str:
    """The condition that tells the rows of the target's own table from those of others; true where all are."""
    columns = {c.name: c for c in of.columns}
    return " AND ".join(f"{quoted(n)} = {_literal(columns[n], value)}" for n, value in of.target.own) or "TRUE"


def _bound(of: Layout, key: Key, sign: str, last: str) -> str:
    """`(a, b) sign key`, spelled out: not every server finds a range by a row of values."""
    if len(key) != len(of.key):
        table = of.target.schema.table
        raise FatalError(f"{table}: a bound of {len(key)} values for a key of {len(of.key)} columns", table=str(table))
    columns = {c.name: c for c in of.columns}
    parts = [(quoted(name), _literal(columns[name], value)) for name, value in zip(of.key, key, strict=True)]
    condition = f"{parts[-1][0]} {last} {parts[-1][1]}"
    for name, literal in reversed(parts[:-1]):
        condition = f"({name} {sign}= {literal} AND ({name} {sign} {literal} OR {condition}))"
    return condition


def _literal(column: Column, value: KeyValue) -> str:
    kind = column.type.value_type if pat.is_dictionary(column.type) else column.type
    written = key_literals(column_of([value], kind), column.source_type)[0].as_py()
    # Any byte may stand in the bound of a binary key: as a text it is written in hex.
    return f"x'{bytes(value).hex()}'" if isinstance(value, bytes) else str(written.decode())


def _key_of(of: Layout, row: tuple[Any, ...]) -> Key:
    places = {c.name: at for at, c in enumerate(of.columns)}
    columns = {c.name: c for c in of.columns}
    return tuple(plain(_array(columns[name], [row[places[name]]])[0]) for name in of.key)


def _batch(of: Layout, found: Sequence[tuple[Any, ...]]) -> pa.RecordBatch:
    schema = of.target.schema.arrow()
    by_name = dict(zip((c.name for c in of.columns), zip(*found, strict=True), strict=True))
    columns = {c.name: c for c in of.columns}
    arrays = [
        read(of, columns[field.name], by_name[field.name])
        if field.name in by_name
        else pa.nulls(len(found), field.type)
        for field in schema
    ]
    return pa.RecordBatch.from_arrays([a.cast(f.type) for a, f in zip(arrays, schema, strict=True)], schema=schema)


def read(of: Layout, column: Column, values: Sequence[Any]) -> pa.Array:
    """FatalError: a value that no source has, as a zero date, and that somebody else has written."""
    try:
        return _array(column, values)
    except pa.ArrowInvalid as error:
        raise FatalError(
            f"{full_name(of.target)}, column {column.name}: {error}",
            table=str(of.target.schema.table),
            hint="mend or remove the row at the target",
            code="E187",
        ) from error


def _array(column: Column, values: Sequence[Any]) -> pa.Array:
    """The texts of one column as its Arrow type."""
    kind = column.type
    if pat.is_binary(kind) or pat.is_large_binary(kind):
        return pa.array([v.encode() if isinstance(v, str) else v for v in values], kind)
    texts = pa.array([v.decode() if isinstance(v, bytes) else v for v in values], pa.string())
    if pat.is_dictionary(kind):
        return _coded(texts, kind)
    if pat.is_duration(kind):
        return _durations(texts).cast(kind)
    if pat.is_timestamp(kind):
        return texts.cast(pa.timestamp("us")).cast(kind)
    if pat.is_boolean(kind):
        return texts.cast(pa.int8()).cast(kind)
    return texts.cast(kind)


def _coded(texts: pa.Array, kind: pa.DataType) -> pa.Array:
    coded = texts.cast(kind.value_type).dictionary_encode()
    return pa.DictionaryArray.from_arrays(coded.indices.cast(kind.index_type), coded.dictionary)


def _durations(texts: pa.Array) -> pa.Array:
    """[-]hours:minutes:seconds[.fraction] as microseconds."""
    found = pc.extract_regex(texts, r"^(?P<sign>-?)(?P<h>\d+):(?P<m>\d+):(?P<s>\d+)(?:\.(?P<f>\d+))?$")
    h, m, s = (pc.struct_field(found, [name]).cast(pa.int64()) for name in "hms")
    fraction = pc.utf8_rpad(pc.struct_field(found, ["f"]), width=6, padding="0").cast(pa.int64())
    total = pc.add(pc.multiply(pc.add(pc.multiply(pc.add(pc.multiply(h, 60), m), 60), s), 1_000_000), fraction)
    signed = pc.if_else(pc.equal(pc.struct_field(found, ["sign"]), "-"), pc.negate(total), total)
    return pc.cast(signed, pa.duration("us"))
