"""Columns: left out, renamed, added, masked."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from typing import Any

import pyarrow as pa
import pytest
from pydantic import SecretStr

from syncd.errors import ConfigError
from syncd.model import Column, Index, IndexPart, Op, TableSchema
from syncd.transforms import build, unknown_columns
from tests.unit.transforms.tables import FIRST, SCHEMA, batch, rule, text


def only(**settings: Any) -> dict[str, Any]:
    """The first row behind the transform."""
    out = build(rule(**settings), SCHEMA).apply(batch([{}]))
    assert out.rows.schema.equals(out.schema.arrow(), check_metadata=True)
    row: dict[str, Any] = out.rows.to_pylist()[0]
    return row


def test_no_rule_is_no_work() -> None:
    transform = build(rule(), SCHEMA)
    rows = batch([{}])
    assert transform.is_identity
    assert transform.schema is SCHEMA
    assert transform.apply(rows) is rows


def test_include_exclude_rename_add() -> None:
    row = only(
        include=("ID", "email", "price"), rename={"Email": "mail"}, add={"shard": "7", "n": 3, "f": 0.5, "b": True}
    )
    assert row == {"id": 1, "mail": FIRST["email"], "price": FIRST["price"], "shard": "7", "n": 3, "f": 0.5, "b": 1}
    assert list(only(exclude=("raw", "doc"))) == [c.name for c in SCHEMA.columns if c.name not in {"raw", "doc"}]


@pytest.mark.parametrize("name", [c.name for c in SCHEMA.columns if c.name != "id"])
@pytest.mark.parametrize("mask", ["hash", "null", "redact", "partial"])
def test_every_mask_takes_every_type(name: str, mask: str) -> None:
    transform = build(rule(mask={name: mask}), SCHEMA)
    out = transform.apply(batch([{}, {name: None}]))
    assert out.rows.column(name).type == transform.schema.column(name).type
    assert out.rows.column(name)[1].as_py() is None
    shown = out.rows.column(name)[0].as_py()
    assert (shown is None) == (mask == "null")
    assert str(FIRST[name]) != shown


def test_what_masks_make() -> None:
    key = b"pepper"
    digest = hashlib.blake2b(b"ann.bee@example.org", digest_size=32, key=key).hexdigest()
    assert only(mask={"email": "hash"}, salt=SecretStr("pepper"))["email"] == digest
    assert only(mask={"small": "hash"}, salt=SecretStr("pepper"))["small"] == (
        hashlib.blake2b(b"-5", digest_size=32, key=key).hexdigest()
    )
    assert only(mask={"raw": "hash"})["raw"] == hashlib.blake2b(b"\x00\xff", digest_size=32).hexdigest()
    assert only(mask={"email": "partial"})["email"] == "****.org"
    assert only(mask={"padded": "partial"})["padded"] == "****"
    assert only(mask={"email": "redact"})["email"] == "***"


def test_a_long_salt_is_a_key_too() -> None:
    one, other = (only(mask={"email": "hash"}, salt=SecretStr("x" * 64 + end))["email"] for end in "ab")
    assert one != other


def test_a_masked_column_forgets_its_default_and_says_its_type() -> None:
    schema = replace(SCHEMA, columns=(SCHEMA.columns[0], replace(text("email"), nullable=False, default="root@x")))
    shown = build(rule(mask={"email": "null"}), schema).schema.column("email")
    assert (shown.nullable, shown.default, shown.type) == (True, None, pa.string())
    hashed = build(rule(mask={"email": "hash"}), schema).schema.column("email")
    assert (hashed.source_type, hashed.default, hashed.nullable) == ("char(64)", None, False)


def test_before_images_are_masked_renamed_and_cut_too() -> None:
    rows = batch([{}], [Op.UPDATE], before=[{"id": 1, "email": "old@example.org", "raw": b"old", "small": 4}])
    out = build(rule(mask={"email": "redact"}, exclude=("raw",), rename={"small": "tiny"}), SCHEMA).apply(rows)
    assert out.before is not None
    assert out.before.to_pylist() == [{"id": 1, "email": "***", "tiny": 4}]


def twin_schema() -> TableSchema:
    return TableSchema(
        SCHEMA.table,
        1,
        (text("name", "utf8mb4_general_ci"), Column("_key_name", pa.binary(), False, normal_of="name"), text("other")),
        ("name",),
        "primary",
    )


def test_a_twin_follows_its_key_column() -> None:
    out = build(rule(include=("name",), rename={"name": "title"}), twin_schema()).schema
    assert [(c.name, c.normal_of) for c in out.columns] == [("title", ""), ("_key_name", "title")]
    assert (out.key, out.identity) == (("title",), ("_key_name",))


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"exclude": ("id",)}, "columns.exclude: 'id' is a key column of shop.users and cannot be left out [C125]"),
        ({"include": ("email",)}, "columns.include: 'id' is a key column of shop.users and cannot be left out [C125]"),
        ({"mask": {"id": "hash"}}, "mask.id: 'id' is a key column of shop.users and cannot be masked"),
        ({"mask": {"nope": "hash"}}, "mask.nope: shop.users has no column 'nope'; there is: id, email"),
        ({"rename": {"nope": "x"}}, "columns.rename.nope: shop.users has no column 'nope'"),
        ({"exclude": ("nope",)}, "columns.exclude: shop.users has no column 'nope'"),
        ({"rename": {"email": "country"}}, "columns.rename: shop.users would have two columns 'country' [C123]"),
        ({"add": {"email": "x"}}, "add.email: shop.users would have two columns 'email' [C123]"),
        ({"key": ("nope",)}, "key: shop.users has no column 'nope' [C124]"),
        ({"key": ("email",)}, "key: the key of shop.users is (id), and the job's is another one"),
        ({"where": "nope = 1"}, "where: shop.users has no column 'nope'"),
    ],
)
def test_what_does_not_fit_is_refused_by_name(settings: dict[str, Any], says: str) -> None:
    with pytest.raises(ConfigError) as raised:
        build(rule(**settings), SCHEMA)
    assert str(raised.value).startswith(f"tables.shop.users.{says}")


def test_every_unknown_column_is_told() -> None:
    known = {"mask": {"nope": "hash", "EMAIL": "hash"}, "rename": {"no": "x"}, "exclude": ("id", "never")}
    assert [(fault.key, fault.what) for fault in unknown_columns(rule(**known), SCHEMA)] == [
        ("tables.shop.users.mask.nope", "shop.users has no column 'nope'"),
        ("tables.shop.users.columns.rename.no", "shop.users has no column 'no'"),
        ("tables.shop.users.columns.exclude", "shop.users has no column 'never'"),
    ]
    (only,) = unknown_columns(rule(include=("id", "nope")), SCHEMA)
    assert (only.key, only.code) == ("tables.shop.users.columns.include", "C124")


def test_indexes_follow_their_columns_and_words_go_where_names_have_changed() -> None:
    indexes = (
        Index("u", (IndexPart("email", 10),), "unique"),
        Index("m", (IndexPart("price"), IndexPart("raw", descending=True))),
        Index("x", (IndexPart("", expression="(lower(`email`))"),)),
    )
    columns = tuple(replace(c, generated="(1) STORED") if c.name == "price" else c for c in SCHEMA.columns)
    schema = replace(SCHEMA, columns=columns, indexes=indexes, partitions="PARTITION BY HASH (id)")

    def out(**settings: Any) -> tuple[list[tuple[str, tuple[str, ...]]], str, str]:
        made = build(rule(**settings), schema).schema
        shown = [(index.name, tuple(part.column for part in index.parts)) for index in made.indexes]
        return shown, next((c.generated for c in made.columns if c.name == "price"), ""), made.partitions

    whole = [("u", ("email",)), ("m", ("price", "raw")), ("x", ("",))]
    assert out() == (whole, "(1) STORED", "PARTITION BY HASH (id)")
    assert out(add={"shard": 7}) == (whole, "(1) STORED", "PARTITION BY HASH (id)")
    assert out(rename={"email": "mail"}) == ([("u", ("mail",)), ("m", ("price", "raw"))], "", "")
    assert out(exclude=("raw",)) == ([("u", ("email",))], "", "")
    assert out(mask={"email": "hash"}) == ([("m", ("price", "raw"))], "", "")
    assert out(add={"shard": 7}, key=("shard", "id"))[0][0] == ("u", ("email", "shard"))


def test_what_is_computed_of_dates_goes_along_as_it_is_where_zero_dates_become_null() -> None:
    """A sink would compute something else of a NULL."""
    words = {"price": "(year(`born`)) VIRTUAL", "small": "(`price` + 1) STORED", "big": "(length(`raw`)) STORED"}
    columns = tuple(replace(c, generated=words.get(c.name, "")) for c in SCHEMA.columns)
    schema = replace(SCHEMA, columns=columns)
    made = build(rule(), schema, zero_is_null=True)
    assert {c.name: c.generated for c in made.schema.columns if c.generated} == {"big": words["big"]}
    assert made.apply(replace(batch([{}]), schema=schema)).schema is made.schema
    assert build(rule(), schema).is_identity
    assert build(rule(), SCHEMA, zero_is_null=True).is_identity


def test_the_key_of_a_job() -> None:
    sharded = build(rule(key=("shard", "id"), add={"shard": "7"}), SCHEMA).schema
    assert (sharded.key, sharded.key_from) == (("shard", "id"), "job")
    keyless = replace(SCHEMA, key=(), key_from="")
    assert build(rule(key=("email",), rename={"email": "mail"}), keyless).schema.key == ("mail",)
    assert build(rule(rename={"id": "number"}), SCHEMA).schema.key == ("number",)
