"""Conformance of sinks, part four: a connection that is cut or slow, and a queue that was restored."""

from __future__ import annotations

import base64
import random
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Literal

import pytest

from syncd.errors import FencedError, TransientError
from syncd.model import Lane, Target
from syncd.spi import Mark, Sink
from syncd.testing.contracts.sink_kit import (
    INSERT,
    KEYLESS,
    LANE,
    OWNER,
    UPDATE,
    Change,
    Factory,
    Writer,
    batch,
    live,
    rows,
    target,
)


class Trouble:
    """See `sink.SinkContract`."""

    @pytest.mark.parametrize("when", ["before", "after"])
    def test_a_cut_write_is_settled_by_the_same_call(
        self, sink: Sink, items: Target, when: Literal["before", "after"]
    ) -> None:
        """Nobody knows whether it was done: with it again each row is there once, of a table without a key too."""
        log = target(KEYLESS, append=True, deletes="ignore")
        sink.prepare(log)
        for of in (items, log):
            changes: list[Change] = [(INSERT, 10, (1, "a", 1)), (INSERT, 11, (2, "b", 2))]
            ticket = Writer(sink, of).ticket(changes)
            self.cut(sink, when)
            with pytest.raises(TransientError):
                sink.write(of, batch(of.schema, changes), ticket)
            sink.write(of, batch(of.schema, changes), ticket)
            assert sorted(rows(sink, of)) == [(1, "a", 1), (2, "b", 2)]

    def test_a_slow_write_is_whole_when_it_returns(
        self, sink: Sink, factory: Factory, slow_factory: Factory, items: Target
    ) -> None:
        """Guarantee 1; and another lane's writes go on meanwhile (8)."""
        many: list[Change] = [(INSERT, 10 + i, (i, _long(i), i)) for i in range(1000)]
        other = Writer(sink, items, owner=f"{OWNER}/other", lane=Lane("t", 1))
        with _writing(slow_factory, items, many) as slow:
            while slow.running():
                other.write((UPDATE, 5000, (-1, "other", 1)))
                if slow.running():
                    break
            else:
                pytest.fail("no other write came to its end while the slow one was on its way")
        assert slow.error is None
        assert live(sink, items) == {-1: ("other", 1)} | {i: (_long(i), i) for i in range(1000)}

    def test_a_slow_write_that_is_fenced_changes_nothing_afterwards(
        self, sink: Sink, slow_factory: Factory, items: Target
    ) -> None:
        """Guarantee 7: the owner hangs in its write while its lanes pass on."""
        with _writing(slow_factory, items, [(INSERT, 10 + i, (i, _long(i), i)) for i in range(1000)]) as slow:
            sink.fence(OWNER, 2)
            Writer(sink, items, epoch=2).write(*((UPDATE, 5000 + i, (i, "heir", 1)) for i in range(1000)))
            assert slow.running() or isinstance(slow.error, FencedError)
        assert live(sink, items) == dict.fromkeys(range(1000), ("heir", 1))
        if sink.traits().transactional:
            assert isinstance(slow.error, FencedError)

    def test_a_sink_that_is_ahead_of_its_queue(self, sink: Sink, factory: Factory, items: Target) -> None:
        """The queue was restored. The changes come again, in fewer messages, and other ones at offsets that it knows.

        What it remembers is told as it was, so that the engine halts; and is what the writes after a resync say.
        """
        log: list[Change] = [(UPDATE, 10 + i, (1, f"{i}", i)) for i in range(6)]
        ahead = Writer(sink, items)
        for one in log:
            ahead.write(one)
        again = factory()
        again.open()
        try:
            if again.traits().transactional:
                assert again.marks(OWNER) == {LANE: Mark(6, "queue-1", {"source": 15})}
            behind = Writer(again, items, number=2)
            behind.write(*log[2:])
            behind.write((UPDATE, 16, (1, "newer", 6)))
            ticket = behind.write((INSERT, 17, (2, "new", 1)))
            assert live(again, items) == {1: ("newer", 6), 2: ("new", 1)}
            if again.traits().transactional:
                assert again.marks(OWNER) == ticket.marks
        finally:
            again.close()

    def cut(self, sink: Sink, when: Literal["before", "after"]) -> None:
        raise NotImplementedError


def _long(number: int) -> str:
    """A thousand letters that no compression makes much fewer."""
    return base64.b85encode(random.Random(number).randbytes(800)).decode()


@dataclass
class _Writing:
    thread: threading.Thread
    error: BaseException | None = None

    def running(self) -> bool:
        return self.thread.is_alive()


@contextmanager
def _writing(factory: Factory, items: Target, changes: Sequence[Change]) -> Iterator[_Writing]:
    """An instance of its own writes in a thread of its own; at the end it has, and `error` is what it was told."""
    begun = threading.Event()

    def write() -> None:
        sink = factory()
        try:
            sink.open()
            begun.set()
            Writer(sink, items).write(*changes)
        except BaseException as error:  # noqa: BLE001 - looked at by the test
            writing.error = error
        finally:
            begun.set()
            sink.close()

    writing = _Writing(threading.Thread(target=write))
    writing.thread.start()
    try:
        assert begun.wait(60)
        yield writing
    finally:
        writing.thread.join(120)
    assert not writing.running()
