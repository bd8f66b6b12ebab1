"""A sink's own filter on what is published: what goes there, and what becomes of the rest."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest

from syncd.errors import ConfigError, Unsupported
from syncd.model import Op
from syncd.transforms import SinkFilter, build
from syncd.transforms.where import compile_filter, parse
from tests.unit.transforms.tables import SCHEMA, batch, rule

DE, FR, NO = {"country": "DE"}, {"country": "FR"}, {"country": None}
GERMAN = SinkFilter(SCHEMA, compile_filter(parse("country = 'DE'"), SCHEMA))


@pytest.mark.parametrize(
    ("op", "row", "changed", "matching"),
    [
        (Op.READ, DE, "READ", "READ"),
        (Op.READ, FR, "DELETE", ""),
        (Op.READ, NO, "DELETE", ""),
        (Op.INSERT, DE, "INSERT", "INSERT"),
        (Op.INSERT, FR, "DELETE", ""),
        (Op.INSERT, NO, "DELETE", ""),
        (Op.UPDATE, DE, "UPDATE", "UPDATE"),
        (Op.UPDATE, FR, "DELETE", ""),
        (Op.UPDATE, NO, "DELETE", ""),
        (Op.DELETE, DE, "DELETE", "DELETE"),
        (Op.DELETE, FR, "DELETE", "DELETE"),
        (Op.DELETE, NO, "DELETE", "DELETE"),
    ],
)
def test_what_becomes_of_a_row(op: Op, row: Mapping[str, Any], changed: str, matching: str) -> None:
    """A change is a DELETE where it does not match, since the row may be there; what was read, or is added, is not."""
    given = batch([row], [op])
    assert [Op(int(o)).name for o in GERMAN.changed(given).op] == [changed]
    assert [Op(int(o)).name for o in GERMAN.matching(given).op] == ([matching] if matching else [])


def test_keys_and_seqs_stay_and_nothing_of_the_others_shows() -> None:
    """Also where a key changed: a DELETE of the old one, and the row under its new one, each by itself."""
    rows = [{**DE, "id": 1, "email": "a"}, {**FR, "id": 2, "email": "b"}, {**FR, "id": 3, "email": "c"}]
    given = batch(rows, [Op.UPDATE, Op.UPDATE, Op.DELETE])
    out = GERMAN.changed(given)
    assert out.rows.column("id").to_pylist() == [1, 2, 3]
    assert np.array_equal(out.seq, given.seq)
    assert out.rows.schema == given.rows.schema
    shown = [{name for name, value in row.items() if value is not None} for row in out.rows.to_pylist()]
    assert "email" in shown[0]
    assert shown[1] == {"id"}
    assert shown[2] == {name for name, value in given.rows.to_pylist()[2].items() if value is not None}


def test_what_all_match_goes_on_as_it_is() -> None:
    given = batch([DE, DE], [Op.INSERT, Op.UPDATE])
    assert GERMAN.changed(given) is given
    assert GERMAN.matching(given) is given
    assert SinkFilter(SCHEMA).changed(given) is given
    assert GERMAN.changed(empty := given.slice(0, 0)) is empty


def test_it_sees_masked_and_renamed_columns_as_they_are_published() -> None:
    transform = build(rule(mask={"email": "redact"}, rename={"country": "land"}), SCHEMA)
    published = transform.apply(batch([{**DE, "email": "x@y.org"}, {**FR, "email": None}], [Op.INSERT] * 2))
    text = "land = 'DE' AND email COLLATE utf8mb4_0900_bin = '***'"
    wanted = SinkFilter(transform.schema, compile_filter(parse(text), transform.schema))
    assert [Op(int(o)).name for o in wanted.changed(published).op] == ["INSERT", "DELETE"]
    with pytest.raises(ConfigError, match="no column 'country'"):
        compile_filter(parse("country = 'DE'"), transform.schema)


def test_the_row_of_a_delete_is_not_looked_at() -> None:
    """It may hold its key alone, or a value that cannot be compared."""
    odd = {"country": "D\u00c9"}
    assert len(GERMAN.changed(batch([odd], [Op.DELETE]))) == 1
    with pytest.raises(Unsupported):
        GERMAN.changed(batch([odd], [Op.UPDATE]))
