"""Checks across settings: patterns and their groups, tags, filters, columns that a rule names twice, mode and start."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from syncd import tags
from syncd.config import filters
from syncd.config.document import Document, Key
from syncd.config.spec import SinkBlock, TableSpec
from syncd.config.tables import ONE_TARGET, are_apart, check_group_use, check_pattern, target_of, tells_apart
from syncd.errors import ConfigError
from syncd.model import TableId

M = TypeVar("M", bound=BaseModel)


def check_rules(document: Document, data: Mapping[str, Any]) -> Iterator[ConfigError]:
    """Faults that one setting alone does not show. Parts that are faulty in themselves are passed over."""
    for text, value in items(data.get("tables")):
        yield from _table(document, text, {} if value is None else value)
    yield from _one_target(document, data)
    for name, value in items(data.get("sinks")):
        sink = valid(SinkBlock, value)
        if sink is not None:
            yield from _tags(document, ("sinks", name, "tags"), sink.tags)
            yield from filters.check(document, name, sink.where) if sink.where is not None else ()
    mode = data.get("mode", "snapshot+cdc")
    if data.get("start") is not None and mode != "cdc":
        what = f"`start` is for mode cdc, and the mode is {mode}"
        yield document.fault(("start",), what, code="C121", hint="take one of the two out", of_key=True)


def _table(document: Document, text: str, value: object) -> Iterator[ConfigError]:
    pattern, faults = check_pattern(document, text)
    yield from faults
    table = valid(TableSpec, value)
    if table is None:
        return
    if pattern is not None:
        yield from check_group_use(document, pattern, table)
    yield from _columns(document, ("tables", text), table)
    yield from _where(document, ("tables", text, "where"), table.where)
    yield from _compute(document, ("tables", text, "compute"), table)


def _one_target(document: Document, data: Mapping[str, Any]) -> Iterator[ConfigError]:
    """Tables that go to one target without a constant in their keys that tells them apart: a pattern's, or two tables.

    What depends on which tables there are is found when they are known (`Parts.crowded_out`).
    """
    seen: dict[TableId, list[TableSpec]] = {}
    for text, value in items(data.get("tables")):
        spec, (pattern, _) = valid(TableSpec, {} if value is None else value), check_pattern(document, text)
        if spec is None or pattern is None or spec.skip:
            continue
        if pattern.kind == "exact":
            table = TableId(*text.split(".", 1)) if "`" not in text else TableId.parse(text)
            others = seen.setdefault(target_of(table, spec.to or ""), [])
            wrong = not all(are_apart(spec, other) for other in others)
            others.append(spec)
        else:
            wrong = spec.to is not None and not tells_apart(pattern, spec)
        if wrong:
            key: Key = ("tables", text, "to") if spec.to is not None else ("tables", text)
            what = "several tables go to one target, and nothing in the key tells their rows apart"
            yield document.fault(key, what, code="C127", hint=ONE_TARGET, of_key=spec.to is None)


def items(value: object) -> list[tuple[str, Any]]:
    """Of a mapping; nothing of what should be one and is not."""
    return list(value.items()) if isinstance(value, dict) else []


def valid(model: type[M], value: object) -> M | None:
    """None for what is faulty in itself."""
    try:
        return model.model_validate(value)
    except ValidationError:
        return None  # the whole file is validated beside this; that is where the fault is told


def _tags(document: Document, key: Key, expression: str) -> Iterator[ConfigError]:
    try:
        tags.parse(expression)
    except ValueError as error:
        what = str(error).rpartition(": ")[2].partition(";")[0]
        yield document.fault(key, what, code="C119", hint="write `*`, or names joined by `||`")


def _where(document: Document, key: Key, condition: str | None) -> Iterator[ConfigError]:
    """Syntax only: which columns there are, and of what type, is known when the job is planned."""
    if condition is None:
        return
    # sqlglot is slow to load: only who filters pays for it.
    from syncd.transforms.where import parse

    try:
        parse(condition)
    except ConfigError as error:
        yield document.fault(key, error.what, code=error.code, hint=error.hint)


def _compute(document: Document, key: Key, table: TableSpec) -> Iterator[ConfigError]:
    """Syntax and functions; columns and types are known when the job is planned."""
    if not table.compute:
        return
    from syncd.transforms.compute import parse

    for name, expression in table.compute.items():
        try:
            parse(expression)
        except ConfigError as error:
            yield document.fault((*key, name), error.what, code="C132", hint=error.hint)


def _columns(document: Document, key: Key, table: TableSpec) -> Iterator[ConfigError]:
    for name in table.mask:
        if name in table.columns.exclude:
            hint = "take one of the two out"
            yield document.fault((*key, "mask", name), "the column is excluded", code="C123", hint=hint)
    for setting in ("add", "compute"):
        for name in getattr(table, setting):
            if name in table.columns.rename.values():
                yield document.fault((*key, setting, name), "a column is renamed to this name", code="C123")
    yield from _computed_twice(document, (*key, "compute"), table)


def _computed_twice(document: Document, key: Key, table: TableSpec) -> Iterator[ConfigError]:
    """A computed column that another setting leaves out, adds, or computes under a name in other letters."""
    names = [name.lower() for name in table.compute]
    left_out, added = ({name.lower() for name in some} for some in (table.columns.exclude, table.add))
    for place, name in enumerate(table.compute):
        if name.lower() in left_out:
            yield document.fault((*key, name), "the column is excluded", code="C123", hint="take one of the two out")
        elif name.lower() in added:
            yield document.fault((*key, name), "`add` has a column of this name", code="C123", hint="keep one of them")
        elif name.lower() in names[:place]:
            yield document.fault((*key, name), "the column is there twice", code="C123", hint="keep one of them")
