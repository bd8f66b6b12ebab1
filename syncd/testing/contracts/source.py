"""The conformance suite of sources. A plugin's test is a subclass with two fixtures and what it needs to differ in:

    class TestMySource(SourceContract):
        @pytest.fixture
        def factory(self, ...) -> Factory: ...        # makes a new, closed instance each time

        @pytest.fixture
        def hands(self, ...) -> Hands: ...            # a user of the same server

        @pytest.fixture
        def slow_factory(self, ...) -> Factory: ...   # as `factory`, over a slow connection; left out: not tested

`chunk_bytes` cuts 300 small rows into several chunks; `large` rows of 200 bytes in one transaction fill several
buffers; `writers` hands write at the same time.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from syncd.testing.contracts.source_changes import Changes
from syncd.testing.contracts.source_kit import ITEMS, MARKER, WORDS, Bench, Factory, Hands, Transaction
from syncd.testing.contracts.source_rows import Rows


class SourceContract(Rows, Changes):
    """Subclass it under a name that pytest collects."""

    chunk_bytes: int = 1000
    large: int = 30_000
    writers: int = 3

    @pytest.fixture
    def factory(self) -> Factory:
        """Makes a new, closed instance of the source, on the same server each time."""
        raise NotImplementedError

    @pytest.fixture
    def hands(self) -> Hands:
        """A user of that server, in an empty database."""
        raise NotImplementedError

    @pytest.fixture
    def slow_factory(self) -> Factory:
        pytest.skip("this source's test has no slow connection")

    @pytest.fixture
    def bench(self, factory: Factory, hands: Hands) -> Iterator[Bench]:
        """An open instance, with the tables `items`, `words` and `marker`."""
        for table in (ITEMS, WORDS, MARKER):
            hands.create(table)
        made = Bench(factory(), hands)
        made.source.open()
        yield made
        made.source.close()


__all__ = ["Factory", "Hands", "SourceContract", "Transaction"]
