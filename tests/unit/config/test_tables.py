"""Which rule holds for a table."""

from __future__ import annotations

import json

import pytest

from syncd.config import TableRule
from syncd.config.tables import Pattern
from syncd.errors import ConfigError
from syncd.model import TableId
from tests.unit.config.conftest import MINIMAL, Load


def rule(load: Load, tables: object, name: str) -> TableRule | None:
    database, _, table = name.partition(".")
    return load(MINIMAL.replace('{"shop.*": {}}', json.dumps(tables))).match(TableId(database, table))


@pytest.mark.parametrize(
    ("pattern", "kind", "fits", "fits_not"),
    [
        ("shop.users", "exact", ["shop.users"], ["shop.user", "Shop.users", "shop.users2"]),
        ("shop.$log", "exact", ["shop.$log"], ["shop.log"]),
        ("shop.*", "glob", ["shop.users", "shop.a"], ["shop2.users", "xshop.a"]),
        ("*.users", "glob", ["shop.users", "b.users"], ["shop.users2"]),
        ("shop.log_?", "glob", ["shop.log_1"], ["shop.log_", "shop.log_12"]),
        ("*.*", "glob", ["a.b", "a.b.c"], []),
        ("shop.*", "glob", ["shop.a.b", "shop.a b"], []),
        ("shop.a.b", "exact", ["shop.a.b"], ["shop.a", "shop.axb"]),
        ("`my shop`.`a.b+(c)*`", "exact", ["my shop.a.b+(c)*"], ["my shop.a.bb", "`my shop`.`a.b+(c)*`"]),
        ("shop.`a``b`", "exact", ["shop.a`b"], ["shop.a``b"]),
        (r"shop_(\d+).orders", "regex", ["shop_1.orders", "shop_42.orders"], ["shop_.orders", "shop_1.orders2"]),
        (r"shop\.(users|orders)", "regex", ["shop.users", "shop.orders"], ["shop.user", "shop_users.x"]),
    ],
)
def test_patterns(pattern: str, kind: str, fits: list[str], fits_not: list[str]) -> None:
    compiled = Pattern(pattern)
    assert compiled.kind == kind
    assert all(compiled.match(TableId(*name.split(".", 1))) for name in fits)
    assert not any(compiled.match(TableId(*name.split(".", 1))) for name in fits_not)


@pytest.mark.parametrize(
    ("name", "winner"),
    [
        ("shop.users", "shop.users"),
        ("shop.user_log", "shop.user_*"),
        ("shop.orders", "shop.*"),
        ("other.orders", "*.orders"),
        ("other.things", "*.*"),
    ],
)
def test_the_most_specific_wins(load: Load, name: str, winner: str) -> None:
    tables: dict[str, object] = {p: {} for p in ("*.*", "shop.*", "*.orders", "shop.user_*", "shop.users")}
    tables["shop.*"] = {"kind": "append"}
    if name == "shop.orders":
        del tables["*.orders"]
    found = rule(load, tables, name)
    assert found is not None
    assert found.pattern == winner


def test_a_tie_is_a_fault_with_both_names(load: Load) -> None:
    with pytest.raises(ConfigError) as raised:
        rule(load, {"shop.a*": {}, "shop.*b": {}}, "shop.ab")
    assert "'shop.a*' and 'shop.*b' fit shop.ab equally well; name shop.ab itself" in str(raised.value)
    assert (raised.value.line, raised.value.code) == (4, "C118")


def test_skip_and_no_match(load: Load) -> None:
    tables = {"shop.*": {}, "shop.tmp_*": {"skip": True}}
    assert rule(load, tables, "shop.tmp_1") is None
    assert rule(load, tables, "other.users") is None
    assert rule(load, tables, "shop.users") is not None


@pytest.mark.parametrize(
    ("to", "target"),
    [
        (r"all.orders_\1", ("all", "orders_7")),
        (r"orders_\1", ("shop_7", "orders_7")),
        ("all.orders", ("all", "orders")),
        (None, ("shop_7", "orders")),
    ],
)
def test_names_at_the_sinks(load: Load, to: str | None, target: tuple[str, str]) -> None:
    spec = {} if to is None else {"to": to}
    found = rule(
        load, {r"shop_(\d+).orders": {**spec, "add": {"shard": r"\1", "n": 3}, "key": ["shard"]}}, "shop_7.orders"
    )
    assert found is not None
    assert found.to == TableId(*target)
    assert found.to_given == (to is not None)
    assert found.add == {"shard": "7", "n": 3}


def test_everything_of_a_rule(load: Load) -> None:
    spec = {
        "key": ["id"],
        "kind": "append",
        "keyless": "append",
        "columns": {"exclude": ["a"], "rename": {"b": "c"}},
        "mask": {"d": "redact"},
        "where": "e = 1",
        "sinks": {"olap": {"partition_by": "id"}},
    }
    found = rule(load, {"shop.users": spec}, "shop.users")
    assert found is not None
    assert (found.key, found.kind, found.keyless) == (("id",), "append", "append")
    assert (found.include, found.exclude, found.rename) == (None, ("a",), {"b": "c"})
    assert (found.mask, found.where, found.options) == ({"d": "redact"}, "e = 1", {"olap": {"partition_by": "id"}})
