"""`LogSource` under the conformance suite: its hands, and the suite bound to one class of it."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from syncd.errors import TransientError
from syncd.model import Column, TableId, TableSchema
from syncd.spi import Context, Source
from syncd.testing.contracts.source import Factory, Hands, SourceContract, Transaction
from syncd.testing.contracts.source_kit import VISITS, WORDS
from syncd.testing.source_log import Log
from syncd.testing.source_log import Transaction as LogTransaction
from syncd.testing.sources import LogOptions, LogSource, SourceFaults


class LogHands:
    database = "shop"

    def __init__(self, folder: Path) -> None:
        self._log = Log(folder / "source.db")
        self._cut = folder / "cut"
        self._lock = threading.Lock()

    def _id(self, table: str) -> TableId:
        return TableId(self.database, table)

    def create(self, table: str) -> None:
        qty = Column("qty", pa.int64(), True, "bigint")
        if table == WORDS:
            word = Column("word", pa.string(), False, "varchar(50)", "utf8mb4", "utf8mb4_general_ci")
            twin = Column("_key_word", pa.binary(), False, normal_of="word")
            self._log.create(TableSchema(self._id(table), 0, (word, qty, twin), ("word",), "primary"))
            return
        columns = (Column("id", pa.int64(), False, "bigint"), Column("name", pa.string(), True, "varchar(250)"), qty)
        key, key_from = ((), "") if table == VISITS else (("id",), "primary")
        self._log.create(TableSchema(self._id(table), 0, columns, key, key_from))

    @contextmanager
    def transaction(self) -> Iterator[Transaction]:
        with self._lock, self._log.transaction() as tx:
            yield _Named(self, tx)

    def add_column(self, table: str) -> None:
        self._log.add_column(self._id(table), Column("added", pa.int64(), False, "bigint", default="7"))

    def change_type(self, table: str) -> None:
        schema = self._log.schema(self._id(table))
        columns = tuple(replace(c, type=pa.string()) if c.name == "qty" else c for c in schema.columns)
        self._log.drop(schema.table)
        self._log.create(replace(schema, columns=columns))

    def truncate(self, table: str) -> None:
        self._log.truncate(self._id(table))

    def drop(self, table: str) -> None:
        self._log.drop(self._id(table))

    def cut(self) -> None:
        self._cut.write_text(json.dumps({"fail_every": 1}))

    def close(self) -> None:
        self._log.close()


class _Named:
    def __init__(self, hands: LogHands, tx: LogTransaction) -> None:
        self._hands, self._tx = hands, tx

    def put(self, table: str, row: Sequence[Any]) -> None:
        self._tx.put(self._hands._id(table), row)

    def change(self, table: str, key: Sequence[Any], row: Sequence[Any]) -> None:
        self._tx.change(self._hands._id(table), key, row)

    def delete(self, table: str, key: Sequence[Any]) -> None:
        self._tx.delete(self._hands._id(table), key)


def made(plugin: Callable[[LogOptions, Context], Source], folder: Path, delay: float = 0.0) -> Source:
    """Its next step fails while the file `cut` is there; an instance that is opened afterwards is well."""
    options = LogOptions(
        path=folder / "source.db",
        batch_rows=7,
        group=3,
        page_rows=20,
        heartbeat=0.01,
        faults=SourceFaults(delay=delay),
        faults_file=folder / "cut",
    )
    return plugin(options, Context("job", folder))


class OnceCut(LogSource):
    """Forgets a cut when it has failed once."""

    def _step(self, what: str) -> None:
        try:
            super()._step(what)
        except TransientError:
            assert self._options.faults_file is not None
            self._options.faults_file.unlink(missing_ok=True)
            raise


class LogContract(SourceContract):
    plugin: type[LogSource] = OnceCut
    large = 200

    @pytest.fixture
    def factory(self, tmp_path: Path) -> Factory:
        return partial(made, self.plugin, tmp_path)

    @pytest.fixture
    def slow_factory(self, tmp_path: Path) -> Factory:
        return partial(made, self.plugin, tmp_path, 0.01)

    @pytest.fixture
    def hands(self, tmp_path: Path) -> Iterator[Hands]:
        hands = LogHands(tmp_path)
        yield hands
        hands.close()
