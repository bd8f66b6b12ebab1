"""Computed columns: types known beforehand, exact values or none, deletes and old keys, masks."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from datetime import date, datetime
from decimal import Decimal
from typing import Any

import pyarrow as pa
import pytest
from pydantic import SecretStr

from syncd.config import parse_job
from syncd.engine.lanes import split_key_changes
from syncd.errors import ConfigError, Unsupported
from syncd.model import Index, IndexPart, Op
from syncd.transforms import build, unknown_columns
from tests.unit.transforms.tables import FIRST, SCHEMA, batch, rule

HALF = datetime.fromisoformat("2024-02-29 01:02:03.5")
NULLS = {name: None for name in FIRST if name != "id"}


def digest(text: str, key: bytes = b"") -> str:
    return hashlib.blake2b(text.encode(), digest_size=32, key=key).hexdigest()


def computed(expression: str, *rows: dict[str, Any], **settings: Any) -> list[Any]:
    out = build(rule(compute={"x": expression}, **settings), SCHEMA).apply(batch(rows or [{}]))
    assert out.rows.schema.equals(out.schema.arrow(), check_metadata=True)
    out.rows.validate(full=True)
    values: list[Any] = out.rows.column("x").to_pylist()
    return values


@pytest.mark.parametrize(
    ("expression", "source_type", "nullable", "value", "of_nulls"),
    [
        ("email", "varchar(99)", True, "ann.bee@example.org", None),
        ("kind", "enum('a','b')", True, "a", None),
        ("raw", "varbinary(9)", True, b"\x00\xff", None),
        ("id", "bigint", False, 1, 1),
        ("'web'", "varchar(3)", False, "web", "web"),
        ("-5", "bigint", False, -5, -5),
        ("1.50", "decimal(3,2)", False, Decimal("1.50"), Decimal("1.50")),
        ("1e3", "double", False, 1000.0, 1000.0),
        ("cast(NULL as char(3))", "varchar(3)", True, None, None),
        ("concat(email, kind)", "varchar(354)", True, "ann.bee@example.orga", None),
        ("email || ' ' || small + 0", None, True, None, None),
        ("id || '-' || small", "varchar(41)", True, "1--5", None),
        ("concat_ws(', ', small, price, NULL)", "varchar(40)", False, "-5, 12.50", ""),
        ("split(email, '@', 1)", "varchar(99)", True, "ann.bee", None),
        ("split(email, '.', -2)", "varchar(99)", True, "bee@example", None),
        ("split(email, '@', 3)", "varchar(99)", True, None, None),
        ("split(email, '@', -3)", "varchar(99)", True, None, None),
        ("split('', ',', 1)", "varchar(1)", True, "", ""),
        ("substring(email, -3, 2)", "varchar(2)", True, "or", None),
        ("substr(email, -99)", "varchar(99)", True, "", None),
        ("substring(email, 0, 3)", "varchar(3)", True, "", None),
        ("substring(email, 2, -1)", "varchar(1)", True, "", None),
        ("upper(general)", "varchar(99)", True, "ABC", None),
        ("small + 1", "bigint", True, -4, None),
        ("price * price + id", "decimal(25,4)", True, Decimal("157.2500"), None),
        ("ratio * 3", "double", True, 1.5, None),
        ("small % 3", "bigint", True, -2, None),
        ("small > 0 or id = 1", "tinyint(1)", True, 1, 1),
        ("small is null", "tinyint(1)", False, 0, 1),
        ("upper(general) = 'ABC'", "tinyint(1)", True, 1, None),
        ("coalesce(small, 0)", "bigint", False, -5, 0),
        ("coalesce(NULL, kind, email, 'none')", "varchar(255)", False, "a", "none"),
        ("coalesce(price, small, 0)", "decimal(22,2)", False, Decimal("12.50"), Decimal("0.00")),
        ("coalesce(big, small)", "decimal(20,0)", True, Decimal(2**64 - 1), None),
        ("coalesce(small, ratio)", "double", True, -5.0, None),
        ("coalesce(span, span)", "time", True, FIRST["span"], None),
        ("if(small < 0, 'neg', 'none')", "varchar(4)", False, "neg", "none"),
        ("case when small > 0 then 1.5 when price > 1 then 2 end", "decimal(21,1)", True, Decimal("2.0"), None),
        ("round(price)", "decimal(9,0)", True, Decimal(13), None),
        ("round(-price, 1)", "decimal(10,1)", True, Decimal("-12.5"), None),
        ("date(made)", "date", True, date(2024, 5, 6), None),
        ("doc ->> '$.a'", "longtext", True, None, None),
        ("hash(coalesce(email, ''))", "varchar(64)", False, digest("ann.bee@example.org"), digest("")),
        ("cast(small as tinyint)", "tinyint", True, -5, None),
        ("cast(price as decimal(3,1))", "decimal(3,1)", True, Decimal("12.5"), None),
        ("cast(concat('+0', '12') as int unsigned)", "int unsigned", False, 12, 12),
        ("cast('-.50' as decimal(4,1))", "decimal(4,1)", False, Decimal("-0.5"), Decimal("-0.5")),
        ("cast(0.00000001 as char)", "varchar(11)", False, "0.00000001", "0.00000001"),
        ("cast(ratio as decimal(9,3))", "decimal(9,3)", True, Decimal("0.500"), None),
        ("cast(price as double)", "double", True, 12.5, None),
        ("cast(made as char)", "varchar(26)", True, "2024-05-06 07:08:09.123456", None),
        ("cast(seen as char)", "varchar(26)", True, "2024-05-06 07:08:09", None),
        ("cast(born as datetime)", "datetime", True, datetime(2001, 2, 3), None),  # noqa: DTZ001
        ("cast('2024-02-29 01:02:03.5' as datetime(1))", "datetime(1)", False, HALF, HALF),
    ],
)  # fmt: skip
def test_type_and_value(expression: str, source_type: str | None, nullable: bool, value: Any, of_nulls: Any) -> None:
    if source_type is None:
        with pytest.raises(ConfigError, match="arithmetic"):
            build(rule(compute={"x": expression}), SCHEMA)
        return
    transform = build(rule(compute={"x": expression}), SCHEMA)
    column = transform.schema.column("x")
    assert (column.source_type, column.nullable, column.default) == (source_type, nullable, None)
    assert computed(expression, {}, NULLS, {}) == [value, of_nulls, value]
    assert computed(expression) == [value]
    assert len(transform.apply(batch([]))) == 0


@pytest.mark.parametrize(
    ("expression", "row"),
    [
        ("cast(small as unsigned)", {}),
        ("cast(big as signed)", {}),
        ("big + 1", {}),
        ("small * 9000000000000000000", {}),
        ("ratio * 1e300", {"ratio": 1e300}),
        ("cast(ratio as int)", {}),
        ("cast(id as double)", {"id": 2**53 + 1}),
        ("cast(price as decimal(4,1))", {"price": Decimal("12.55")}),
        ("cast(price as decimal(3,2))", {}),
        ("cast(ratio as decimal(9,2))", {"ratio": 0.1 + 0.2}),
        ("cast(made as date)", {}),
        ("cast(made as datetime(5))", {}),
        ("cast(email as char(5))", {}),
        *((f"cast(email as {kind})", {"email": text}) for kind in ("signed", "unsigned", "decimal(9,2)", "double") for text in ("", " 1", "1 ", "0x1F", "1a", "--1", "nan", "inf", "１")),  # noqa: E501
        ("cast(email as double)", {"email": "1e400"}),
        ("cast(email as decimal(9,2))", {"email": "1e3"}),
        *((f"cast(email as {kind})", {"email": text}) for kind in ("date", "datetime") for text in ("", "2024-02-30", "0000-01-01", "2024-1-1", "20240101")),  # noqa: E501
        ("cast(email as date)", {"email": "2024-01-01 00:00:00"}),
        ("cast(email as datetime)", {"email": "2024-01-01 00:00:00.5"}),
        ("cast(email as datetime(6))", {"email": "2024-01-01 00:00:00Z"}),
        ("email ->> '$.a'", {"email": "{'a': 1}"}),
        ("email ->> '$.a'", {"email": ""}),
        ("email ->> '$.a'", {"email": '{"a": NaN}'}),
        ("email ->> '$.a'", {"email": '{"a": "\\ud800"}'}),
    ],
)  # fmt: skip
def test_what_has_no_exact_value_halts_by_column_row_and_value(expression: str, row: dict[str, Any]) -> None:
    good = {"small": 0, "big": 0, "ratio": 0.0, "price": Decimal(0), "email": None, "made": datetime(2024, 1, 1)}  # noqa: DTZ001
    rows = [{**good, "id": n} for n in range(5)]
    bad = {**FIRST, **row, "id": row.get("id", 77)}
    with pytest.raises(Unsupported) as raised:
        computed(expression, *rows, bad, *rows)
    said = raised.value
    assert (said.code, said.table) == ("E172", "shop.users")
    assert f"shop.users.x of the row with id = {bad['id']}: " in str(said)
    assert "no exact value as" in str(said)
    name = next(name for name in ("small", "big", "ratio", "price", "made", "email", "id") if name in expression)
    assert f" of {name} = " in str(said)


@pytest.mark.parametrize(
    ("settings", "shown"),
    [
        ({}, True),
        ({"compute": {"email": "cast(email as char(3))"}}, True),
        ({"mask": {"email": "redact"}}, False),
        ({"mask": {"x": "redact"}}, False),
        ({"exclude": ("email",)}, False),
        ({"compute": {"email": "hash(email)"}}, False),
        ({"compute": {"email": "substring(email, 1, 1)"}}, False),
    ],
)
def test_a_hidden_value_is_in_no_message(settings: dict[str, Any], shown: bool) -> None:
    columns = {**settings.pop("compute", {}), "x": "cast(email as int)"}
    transform = build(rule(compute=columns, **settings), SCHEMA)
    with pytest.raises(Unsupported) as raised:
        transform.apply(batch([{"email": "se"}, {"email": "secret"}]) if "email" not in columns else batch([{}]))
    assert ("email = " in str(raised.value)) == shown
    assert ("id = 1" in str(raised.value)) is True


def test_branches_are_computed_only_for_their_rows() -> None:
    rows = [{"email": text} for text in ("12", "x", None, "7")]
    assert computed("case when email = 'x' then -1 else cast(email as int) end", *rows) == [12, -1, None, 7]
    assert computed("coalesce(small, cast(email as int))", {"email": "x"}, {"email": "3", "small": None}) == [-5, 3]


def test_json_paths() -> None:
    doc = '{"a": {"b c": [1.10, "x\\ty", null, true, {"k":[]}]}, "e": "", "big": 123456789012345678901234567890}'
    paths = {
        '$.a."b c"[0]': ("1.10", "1.10"),
        '$.a."b c"[1]': ('"x\\ty"', "x\ty"),
        '$.a."b c"[2]': ("null", "null"),
        '$.a."b c"[3]': ("true", "true"),
        '$.a."b c"[4]': ('{"k": []}', '{"k": []}'),
        '$.a."b c"[5]': (None, None),
        "$.e": ('""', ""),
        "$.e[0]": ('""', ""),
        "$.e[1]": (None, None),
        "$.big": ("123456789012345678901234567890",) * 2,
        "$.nope.at.all": (None, None),
        "$[0].e": ('""', ""),
    }
    for path, (quoted, plain) in paths.items():
        assert computed(f"doc -> '{path}'", {"doc": doc}) == [quoted], path
        assert computed(f"json_unquote(doc -> '{path}')", {"doc": doc}, {"doc": None}) == [plain, None], path


def test_a_column_is_replaced_where_it_stands() -> None:
    settings: dict[str, Any] = {"compute": {"Price": "cast(price as decimal(12,3))", "new": "price"}}
    transform = build(rule(**settings, rename={"price": "cost"}, add={"shard": 1}), SCHEMA)
    names = [column.name for column in transform.schema.columns]
    source = [column.name for column in SCHEMA.columns]
    assert names == [*("cost" if name == "price" else name for name in source), "shard", "new"]
    row = transform.apply(batch([{}])).rows.to_pylist()[0]
    assert (row["cost"], row["new"], row["shard"]) == (Decimal("12.500"), Decimal("12.50"), 1)
    same = build(rule(compute={"padded": "lower(padded)"}), SCHEMA)
    assert same.schema == SCHEMA
    assert not same.is_identity
    assert same.apply(batch([{"padded": "A"}])).rows.column("padded").to_pylist() == ["a"]


def test_filters_and_expressions_see_the_source_and_masks_the_result() -> None:
    settings: dict[str, Any] = {"compute": {"email": "upper(email)", "domain": "split(email, '@', 2)"}}
    masked = rule(**settings, where="email = 'a@b'", mask={"email": "partial", "domain": "hash"}, salt=SecretStr("s"))
    transform = build(masked, SCHEMA)
    rows = transform.apply(batch([{"email": "a@b"}, {"email": "A@B"}])).rows
    assert rows.column("email").to_pylist() == ["****"]
    assert rows.column("domain").to_pylist() == [digest("b", b"s")]
    plain = build(rule(compute={"x": "hash(split(email, '@', 2))"}, salt=SecretStr("s")), SCHEMA)
    assert plain.apply(batch([{"email": "a@b"}])).rows.column("x").to_pylist() == [digest("b", b"s")]
    assert list(unknown_columns(masked, SCHEMA)) == []


def test_include_takes_computed_columns_along() -> None:
    transform = build(rule(include=("id",), compute={"email": "lower(email)", "n": "small + 1"}), SCHEMA)
    assert transform.schema.arrow().names == ["id", "email", "n"]


def test_numbers_that_the_server_writes_in_a_way_of_its_own() -> None:
    assert computed("cast(year as char)", {}, {"year": 0}) == ["1999", "0000"]
    for source_type in ("bit(7)", "bigint(9) unsigned zerofill"):
        columns = tuple(replace(c, source_type=source_type) if c.name == "big" else c for c in SCHEMA.columns)
        schema = replace(SCHEMA, columns=columns)
        with pytest.raises(ConfigError, match="cast it to bigint unsigned first"):
            build(rule(compute={"x": "concat(big, '')"}), schema)
        rows = batch([{"big": 5}], schema=schema)
        made = build(rule(compute={"x": "concat(cast(big as bigint unsigned), '')"}), schema)
        assert made.apply(rows).rows.column("x").to_pylist() == ["5"]


def test_an_index_and_a_partition_go_with_a_column_that_is_replaced() -> None:
    columns = (*SCHEMA.columns[:2], replace(SCHEMA.columns[2], generated="(left(`email`, 2)) STORED"))
    indexes = (Index("by_email", (IndexPart("email"),), "unique"), Index("by_country", (IndexPart("country"),)))
    schema = replace(SCHEMA, columns=columns, indexes=indexes, partitions="PARTITION BY KEY (`id`)")
    out = build(rule(compute={"email": "email"}), schema).schema
    assert ([index.name for index in out.indexes], out.partitions, out.column("country").generated) == (
        ["by_country"],
        "",
        "",
    )
    more = build(rule(compute={"new": "country"}, mask={"new": "redact"}), schema).schema
    assert (more.indexes, more.partitions, more.column("country")) == (indexes, schema.partitions, columns[2])
    assert more.column("new").generated == ""


def test_a_default_of_a_replaced_column_is_kept_nowhere() -> None:
    columns = (SCHEMA.columns[0], replace(SCHEMA.columns[1], default="root@x"))
    transform = build(rule(compute={"email": "hash(email)"}), replace(SCHEMA, columns=columns))
    assert [c.default for c in (*transform.saved.columns, *transform.schema.columns)] == [None] * 4


def test_a_deleted_row_without_an_exact_value_goes_on_by_its_key() -> None:
    transform = build(rule(compute={"x": "cast(email as int)"}), SCHEMA)
    rows = [{"id": 1, "email": "5"}, {"id": 2, "email": "bad"}, {"id": 3, "email": "6"}, {"id": 4, "email": "7"}]
    ops = [Op.INSERT, Op.DELETE, Op.DELETE, Op.UPDATE]
    out = transform.apply(batch(rows, ops))
    assert out.rows.column("id").to_pylist() == [1, 2, 3, 4]
    assert out.rows.column("x").to_pylist() == [5, None, 6, 7]
    with pytest.raises(Unsupported, match="id = 4"):
        transform.apply(batch([*rows[:3], {"id": 4, "email": "worse"}], ops))


def test_a_computed_key_changes_with_the_key_it_is_made_of() -> None:
    settings: dict[str, Any] = {"compute": {"region": "substring(id, 1, 1)"}, "key": ("region", "id")}
    transform = build(rule(**settings, add={"shard": "a"}), SCHEMA)
    assert (transform.schema.key, transform.schema.column("region").nullable) == (("region", "id"), False)
    before: list[dict[str, Any]] = [{"id": 11}, {"id": None}]
    changed = transform.apply(batch([{"id": 25}, {"id": 3}], [Op.UPDATE, Op.INSERT], before))
    out = split_key_changes(changed)
    assert [
        (Op(int(op)).name, *key)
        for op, *key in zip(
            out.op, out.rows.column("region").to_pylist(), out.rows.column("id").to_pylist(), strict=True
        )
    ] == [("DELETE", "1", 11), ("INSERT", "2", 25), ("INSERT", "3", 3)]
    bare = transform.apply(batch([{**NULLS, "id": 42}], [Op.DELETE]))
    assert bare.rows.column("region").to_pylist() == ["4"]


def test_old_values_of_other_computed_columns_are_left_out() -> None:
    transform = build(rule(compute={"email": "cast(email as int)"}, where="email <> 'x'"), SCHEMA)
    old: list[dict[str, Any]] = [{"id": 1, "email": "not a number"}]
    out = transform.apply(batch([{"email": "4"}], [Op.UPDATE], old))
    assert out.before is not None
    assert out.before.to_pylist() == [{"id": 1}]


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"compute": {"x": "emial"}}, "compute.x: shop.users has no column 'emial'; did you mean 'email'? [C124]"),
        ({"compute": {"id": "id + 1"}}, "compute.id: 'id' is a key column of shop.users and cannot be computed"),
        ({"compute": {"x": "price + email"}}, "compute.x: column 'email' in arithmetic [C132]"),
        ({"compute": {"x": "NULL"}}, "compute.x: NULL alone has no type; say which one"),
        ({"compute": {"x": "coalesce(email, small)"}}, "compute.x: column 'email' and column 'small' are not of one"),
        ({"compute": {"x": "cast(ratio as char)"}}, "compute.x: a cast of column 'ratio' to char; a floating-point"),
        ({"compute": {"x": "cast(born as int)"}}, "compute.x: a cast of column 'born' to int [C132]"),
        ({"compute": {"x": "cast(email as json)"}}, "compute.x: a cast to json; there is: tinyint, "),
        ({"compute": {"x": "czech = 'a'"}}, "compute.x: column 'czech' cannot be compared exactly"),
        ({"compute": {"x": "split(email, small, 1)"}}, "compute.x: the separator of split must be a constant"),
        ({"compute": {"x": "split(email, '', 1)"}}, "compute.x: split takes a text, a separator that is not empty"),
        ({"compute": {"x": "doc ->> '$.*'"}}, "compute.x: '$.*' is not a path that leads to one value"),
        ({"compute": {"x": "doc ->> 'a'"}}, "compute.x: 'a' is not a path; write '$.name'"),
        ({"compute": {"x": "doc ->> '$.\"a\\\\qb\"'"}}, "compute.x: '$.\"a\\qb\"' is not a path: "),
        ({"compute": {"x": "json_extract(small, '$')"}}, "compute.x: JSON out of column 'small'"),
        ({"compute": {"x": " * ".join(["price"] * 7)}}, "compute.x: the result has 76 digits, 14 of them behind"),
        ({"compute": {"x": "cast(price as decimal(66,1))"}}, "compute.x: there is no DECIMAL(66,1)"),
        ({"compute": {"x": "1"}, "rename": {"email": "x"}}, "columns.rename: shop.users would have two columns 'x'"),
        ({"compute": {"x": "small"}, "key": ("id", "x")}, "key: 'x' looks at 'small', which is not in the table's key"),
        ({"compute": {"x": "split(id, 1, 1)"}, "key": ("id", "x")}, "compute.x: split takes a text"),
        ({"compute": {"x": "split(id, '1', 1)"}, "key": ("id", "x")}, "key: 'x' may be NULL, and cannot be in the key"),
        ({"compute": {"x": "id * 1e0"}, "key": ("id", "x")}, "key: 'x' is a floating-point number"),
        ({"compute": {"x": "id"}, "mask": {"x": "hash"}, "key": ("id", "x")}, "key: 'x' is masked"),
        ({"compute": {"x": "id"}, "key": ("x",)}, "key: the key of shop.users is (id), and the job's is another one"),
    ],
)
def test_what_does_not_fit_is_refused_by_name(settings: dict[str, Any], says: str) -> None:
    with pytest.raises(ConfigError) as raised:
        build(rule(**settings), SCHEMA)
    assert str(raised.value).startswith(f"tables.shop.users.{says}")


def test_every_unknown_column_is_told() -> None:
    faults = list(unknown_columns(rule(compute={"x": "concat(emal, nope)", "y": "no"}, mask={"X": "hash"}), SCHEMA))
    assert [(fault.key, fault.what) for fault in faults] == [
        ("tables.shop.users.compute.x", "shop.users has no column 'emal'"),
        ("tables.shop.users.compute.x", "shop.users has no column 'nope'"),
        ("tables.shop.users.compute.y", "shop.users has no column 'no'"),
    ]
    assert faults[0].hint == "did you mean 'email'?"


JOB = """\
job: shop
source: {mysql: {url: "mysql://db"}}
tables:
  shop.users:
    mask: {email: redact, tail: redact}
    compute:
      domain: split(Email, '@', 2)
      tail: substring(email, -3)
      coded: hash(concat(email, 'x'))
sinks: {olap: {clickhouse: {url: "http://ch"}}}
"""


def test_a_job_is_warned_of_what_it_shows() -> None:
    found = [(finding.subject, finding.text) for finding in parse_job(JOB, "shop.yaml").findings]
    assert found == [
        (
            "shop.yaml:7:15 tables.shop.users.compute.domain",
            "'Email' is masked, and this column is computed of what the mask hides",
        ),
        (
            "shop.yaml:9:14 tables.shop.users.compute.coded",
            "`hash` without `mask_salt`: short values can be found by trying",
        ),
    ]


def test_many_rows_and_slices() -> None:
    """Columns that begin in the middle of their buffers, as the slices of a lane do."""
    rows = [{"id": n, "email": None if n % 7 == 0 else f"u{n}@h{n % 3}.org"} for n in range(1000)]
    whole = batch(rows)
    columns = {"x": "split(email, '@', 2)", "y": "coalesce(email, concat('#', id))"}
    transform = build(rule(compute=columns), SCHEMA)
    expected = [None if n % 7 == 0 else f"h{n % 3}.org" for n in range(1000)]
    assert transform.apply(whole).rows.column("x").to_pylist() == expected
    part = transform.apply(whole.slice(501, 300)).rows
    assert part.column("x").to_pylist() == expected[501:801]
    assert part.column("y").to_pylist()[3] == "#504"
    assert part.column("x").type == pa.string()
