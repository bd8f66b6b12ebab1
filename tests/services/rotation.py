"""Which tests are left to `bench/run nightly`: not all can run each time.

Each test that is there for both MySQL servers runs on one of them; with `--every-server` on both. Which one hangs on the
test's name alone, so that half of the tests run on each. MariaDB always has its own run. Tests with the mark `nightly`
run with `SYNCD_FUZZ` alone. Whatever people ask for by name, word or mark is there.
"""

from __future__ import annotations

import hashlib

import pytest

from tests.services import fuzz

BOTH = ("mysql9", "mysql80")


def add_option(parser: pytest.Parser) -> None:
    text = "tests of MySQL servers on 8.0 and 9, where they otherwise run on one of the two"
    parser.addoption("--every-server", action="store_true", help=text)


def left_out(config: pytest.Config, items: list[pytest.Item]) -> list[pytest.Item]:
    """Those whose turn it is not. None, where people say which tests they want."""
    option = config.option
    if option.every_server or option.keyword or option.markexpr or any("::" in word for word in config.args):
        return []
    later = [item for item in items if item.get_closest_marker("nightly") and fuzz.TIMES == 1]
    turns: dict[str, dict[str, pytest.Item]] = {}
    for item in items:
        here = [name for name in BOTH if item.get_closest_marker(name)]
        if len(here) == 1:
            turns.setdefault(item.nodeid.replace(here[0], "mysql"), {})[here[0]] = item
    return [*later, *(its[_other(test)] for test, its in turns.items() if len(its) == len(BOTH))]


def _other(test: str) -> str:
    return BOTH[hashlib.blake2b(test.encode(), digest_size=1).digest()[0] % 2]
