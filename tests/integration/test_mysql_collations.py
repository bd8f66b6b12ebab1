"""Normalised keys against the server: equal where it says equal, and in its order, control characters included."""

from __future__ import annotations

import random
from pathlib import Path

import pyarrow as pa
import pytest

from syncd.model import Column
from syncd.sources.mysql.collation import Normaliser, needs_twin, rules_of
from syncd.sources.mysql.connect import connect
from syncd.sources.mysql.options import Options
from tests.services.database import Database

EVERYWHERE = [
    "utf8mb4_bin",
    "utf8mb4_general_ci",
    "utf8mb4_unicode_ci",
    "utf8mb4_unicode_520_ci",
    "latin1_swedish_ci",
    "latin1_general_ci",
    "latin1_general_cs",
    "latin1_german1_ci",
    "latin1_bin",
    "ascii_general_ci",
    "ascii_bin",
]
LONG = {"utf8mb4_uca1400_ai_ci", "utf8mb4_uca1400_ai_cs", "utf8mb4_uca1400_nopad_as_ci"}
MYSQL = ["utf8mb4_0900_ai_ci", "utf8mb4_0900_as_ci", "utf8mb4_0900_as_cs"]
MARIADB = [
    "utf8mb4_general_nopad_ci",
    "utf8mb4_unicode_nopad_ci",
    "utf8mb4_uca1400_ai_ci",
    "utf8mb4_uca1400_as_cs",
    "utf8mb4_uca1400_ai_cs",
    "utf8mb4_uca1400_nopad_as_ci",
    "utf8mb3_general_ci",
    "utf8mb3_uca1400_ai_ci",
    "latin1_swedish_nopad_ci",
    "latin1_nopad_bin",
]

NARROW = "".join(map(chr, range(9, 127))) + "   \t"
WIDE = (
    NARROW + "äÄßÿÆøØéÉıİſ\u00a0\u00ad\u0301\u0308\u0306"
    "αΑςσиИйЙеёЯ\u0621اآ\u0653กเแโ\u0e01\u0cc6\u0cc2\u0cd5中文한가\uff21ア\ue000\ufffd"
)
ASTRAL = "😀𝒜\U00020000\U0010ffff"
FEW = "aAb  \t\x01"


def characters(charset: str) -> str:
    if charset == "ascii":
        return NARROW
    if charset == "latin1":
        return NARROW + "äÄßÿÆ€Š\u00a0\u0081"
    return WIDE + (ASTRAL if charset == "utf8mb4" else "")


def column(charset: str, collation: str) -> Column:
    return Column("k", pa.string(), source_type="varchar(40)", charset=charset, collation=collation)


def normaliser(database: Database, directory: Path) -> Normaliser:
    return Normaliser(directory, lambda: connect(Options(url=f"mysql://root@127.0.0.1:{database.port}/")))


def proved(database: Database, directory: Path, collation: str) -> None:
    charset = collation.split("_")[0]
    rng = random.Random(11)
    texts = [
        "".join(rng.choices(FEW if n % 3 == 0 else characters(charset), k=rng.randint(0, 7))) for n in range(2_500)
    ]
    name = f"t_{collation}"
    database.execute(
        f"CREATE TABLE {name} (id INT PRIMARY KEY, k VARCHAR(40) CHARACTER SET {charset} COLLATE {collation})"
    )
    database.many(f"INSERT INTO {name} VALUES (%s, %s)", list(enumerate(texts)))
    order = [row[0] for row in database.query(f"SELECT id FROM {name} ORDER BY k, id")]
    ((distinct,),) = database.query(f"SELECT COUNT(DISTINCT k) FROM {name}")
    keys = normaliser(database, directory)(column(charset, collation), pa.array(texts)).to_pylist()
    assert order == sorted(range(len(texts)), key=lambda n: (keys[n], n)), collation
    assert distinct == len(set(keys)), collation


@pytest.mark.mariadb
@pytest.mark.parametrize(
    "collation",
    [pytest.param(name, marks=[pytest.mark.nightly] if name in LONG else []) for name in [*EVERYWHERE, *MARIADB]],
)
def test_mariadb(mariadb_database: Database, tmp_path: Path, collation: str) -> None:
    proved(mariadb_database, tmp_path, collation)


@pytest.mark.mysql9
@pytest.mark.parametrize("collation", [*EVERYWHERE, *MYSQL, "utf8mb3_unicode_ci"])
def test_mysql9(mysql9_database: Database, tmp_path: Path, collation: str) -> None:
    proved(mysql9_database, tmp_path, collation)


@pytest.mark.mysql80
@pytest.mark.parametrize(
    "collation", ["utf8mb4_0900_ai_ci", "utf8mb4_0900_as_cs", "utf8mb4_general_ci", "latin1_swedish_ci"]
)
def test_mysql80(mysql80_database: Database, tmp_path: Path, collation: str) -> None:
    proved(mysql80_database, tmp_path, collation)


def test_weights_are_kept_on_disk(database: Database, tmp_path: Path) -> None:
    """A second process needs no server."""
    of = column("utf8mb4", "utf8mb4_general_ci")
    values = pa.array(["Ä", None, "a ", ""])
    first = normaliser(database, tmp_path)(of, values)

    def never() -> None:
        raise AssertionError("the server was asked")

    assert Normaliser(tmp_path, never)(of, values).equals(first)
    assert first.null_count == 1


def test_contractions(mariadb_database: Database, tmp_path: Path) -> None:
    """И and a breve are Й, wherever they stand; a batch with one is normalised like one without."""
    of = column("utf8mb4", "utf8mb4_uca1400_ai_ci")
    normalise = normaliser(mariadb_database, tmp_path)
    apart, joined, plain = normalise(of, pa.array(["xи\u0306y", "xйy", "xиy"])).to_pylist()
    assert apart == joined != plain
    assert normalise(of, pa.array(["и", "\u0306"])).to_pylist() == [
        normalise(of, pa.array([t]))[0].as_py() for t in ("и", "\u0306")
    ]


@pytest.mark.parametrize(
    "collation", ["utf8mb4_swedish_ci", "utf8mb4_czech_ci", "latin1_german2_ci", "utf8mb4_de_pb_0900_ai_ci"]
)
def test_language_rules_are_refused(collation: str, tmp_path: Path) -> None:
    def never() -> None:
        raise AssertionError("the server was asked")

    assert collation in Normaliser(tmp_path, never).refusal(column(collation.split("_")[0], collation))


def test_a_collation_that_does_not_add_up_is_refused(
    mysql9_database: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Were a language's rules let through by their name, the proof by random texts would find them."""
    monkeypatch.setattr("syncd.sources.mysql.collation.Rules.known", True)
    monkeypatch.setattr("syncd.sources.mysql.weigh._SAMPLE", "chCHlLnNyY")
    assert "does not weigh" in normaliser(mysql9_database, tmp_path).refusal(
        column("utf8mb4", "utf8mb4_es_trad_0900_ai_ci")
    )


def test_which_columns_have_twins() -> None:
    assert not needs_twin(column("utf8mb4", "utf8mb4_0900_bin"))
    assert not needs_twin(column("utf8mb4", "utf8mb4_nopad_bin"))
    assert needs_twin(column("latin1", "latin1_nopad_bin")), "its order is not that of UTF-8"
    assert needs_twin(column("utf8mb4", "utf8mb4_bin")), "it ignores spaces at the end"
    assert not needs_twin(Column("k", pa.binary(), source_type="varbinary(9)"))
    assert not needs_twin(
        Column("k", pa.dictionary(pa.int16(), pa.string()), source_type="enum('a')", collation="utf8mb4_bin")
    )
    assert rules_of(column("utf8", "utf8_general_ci")).bare == "general_ci"
