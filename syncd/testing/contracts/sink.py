"""The conformance suite of sinks. A plugin's test is a subclass with one fixture, and hooks where they can be had:

    class TestMySink(SinkContract):
        @pytest.fixture
        def factory(self, tmp_path: Path) -> Factory:
            options = MySink.Options(path=tmp_path / "copy")
            return partial(made, MySink, options, tmp_path)

        def refused(self, sink): ...            # a batch of the table `items`, and the rows of it that are refused
        def change_by_hand(self, sink, of): ... # give the column `qty` another type, behind the sink's back
        def cut(self, sink, when): ...          # break the next write alone, before or after the target has done it

        @pytest.fixture
        def slow_factory(self, ...) -> Factory: # as `factory`, over a slow connection: a megabyte takes seconds

Every test holds for sinks with and without row versions, told apart by `traits()`.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from functools import partial
from typing import Literal

import pytest

from syncd.errors import TransientError
from syncd.model import ChangeBatch, Target
from syncd.spi import Sink, Ticket
from syncd.testing.contracts.sink_delivery import Delivery
from syncd.testing.contracts.sink_kit import Factory, made, target
from syncd.testing.contracts.sink_schema import Schema
from syncd.testing.contracts.sink_shards import Shards
from syncd.testing.contracts.sink_trouble import Trouble
from syncd.testing.contracts.sink_values import Values


class SinkContract(Delivery, Trouble, Schema, Shards, Values):
    """Subclass it under a name that pytest collects."""

    @pytest.fixture
    def factory(self) -> Factory:
        """Makes a new, closed instance of the sink, on the same empty target each time; picklable."""
        raise NotImplementedError

    @pytest.fixture
    def slow_factory(self, factory: Factory) -> Factory:
        """Without a connection that could be slow, each write comes late."""
        return partial(_late, factory)

    @pytest.fixture
    def sink(self, factory: Factory) -> Iterator[Sink]:
        """An open instance."""
        made = factory()
        made.open()
        yield made
        made.close()

    @pytest.fixture
    def items(self, sink: Sink) -> Target:
        """The table `shop.items` (id, name, qty), prepared."""
        return self.prepared(sink, target())

    def refused(self, sink: Sink) -> tuple[ChangeBatch, set[int]]:
        pytest.skip("this sink's test names no row that it refuses")

    def change_by_hand(self, sink: Sink, of: Target) -> None:
        pytest.skip("this sink's test changes no table by hand")

    def cut(self, sink: Sink, when: Literal["before", "after"]) -> None:
        """Without a connection that could be broken, the call's answer is lost."""
        whole = sink.write

        def write(target: Target, batch: ChangeBatch, ticket: Ticket) -> None:
            sink.write = whole  # type: ignore[method-assign]
            if when == "after":
                whole(target, batch, ticket)
            raise TransientError("cut by the test")

        sink.write = write  # type: ignore[method-assign]


def _late(factory: Factory) -> Sink:
    sink = factory()
    whole = sink.write

    def write(target: Target, batch: ChangeBatch, ticket: Ticket) -> None:
        time.sleep(2)
        whole(target, batch, ticket)

    sink.write = write  # type: ignore[method-assign]
    return sink


__all__ = ["Factory", "SinkContract", "made"]
