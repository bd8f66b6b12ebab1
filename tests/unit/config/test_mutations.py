"""However a file is damaged: a job or faults with places, never another exception, never a secret."""

from __future__ import annotations

import json
import os
from unittest import mock

from hypothesis import given, settings
from hypothesis import strategies as st

from syncd.config import Faults, not_yet, parse_job
from tests.unit.config.conftest import FULL, PLUGINS

TEXT = FULL.replace("${file:ob}", "${env:OB}").replace("{mask:", "{sinks: {olap: {partition_by: x}}, mask:")
PIECES = [*"{}[]:,'\"\n\t #&*!|>-?%@`\\$.0", "null", "yes", "010", "<<: *a", "&a", "${", "${env:SHOP_PW}"]
PIECES += ["1e999", ".nan", "\x00", "é", "\ud7ff"]
edit = st.tuples(st.integers(0, len(TEXT)), st.integers(0, 30), st.sampled_from(PIECES) | st.just(""))
value = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=5,
)


def judge(text: str) -> None:
    places: list[int] = []
    with mock.patch.dict(os.environ, {"SHOP_PW": "hunter2", "OB": "tiger"}):
        try:
            job = parse_job(text, "shop.yaml", [PLUGINS])
            shown = repr(job) + str([str(fault) for fault in not_yet(job)])
        except Faults as error:
            shown = str(error)
            places = [fault.line for fault in error.faults]
    assert all(places)
    assert "hunter2" not in shown
    assert "tiger" not in shown


@settings(deadline=None)
@given(st.lists(edit, min_size=1, max_size=3))
def test_a_damaged_text(edits: list[tuple[int, int, str]]) -> None:
    text = TEXT
    for at, length, piece in edits:
        text = text[:at] + piece + text[at + length :]
    judge(text)


@settings(deadline=None)
@given(st.sampled_from([line.partition(":")[0] for line in TEXT.splitlines() if line and line[0] != " "]), value)
def test_a_setting_of_any_shape(name: str, shape: object) -> None:
    lines = [line for line in TEXT.split("\n") if not line.startswith(f"{name}:")]
    judge("\n".join(lines) + f"\n{name}: {json.dumps(shape)}\n")
