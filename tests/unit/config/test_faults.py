"""What is said of bad files, word for word and place by place (faults.txt)."""

from __future__ import annotations

import pickle
import re
from pathlib import Path

import pytest

from syncd.catalogue import CATALOGUE
from syncd.config import Faults, load_directory, load_job, parse_job
from syncd.errors import ConfigError
from tests.unit.config.cases import cases
from tests.unit.config.conftest import MINIMAL, PLUGINS

CASES = cases()


@pytest.mark.parametrize("name", CASES)
def test_message(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TEST_PORT", "99999")
    monkeypatch.delenv("SHOP_PW_MISSING", raising=False)
    text, says = CASES[name]
    with pytest.raises(Faults) as raised:
        parse_job(text, "shop.yaml", [PLUGINS])
    assert str(raised.value) == says


def test_the_form_that_was_promised() -> None:
    _, says = CASES["unknown mask"]
    assert says == "shop.yaml:7:30 tables.shop.users.mask.email: 'md5' is not a mask; did you mean 'hash'? [C107]"


@pytest.mark.parametrize("name", CASES)
def test_every_line_has_a_place_and_a_known_code(name: str) -> None:
    for line in CASES[name][1].splitlines():
        match = re.fullmatch(r"shop\.yaml:\d+:\d+[ :].* \[([A-Z]\d+)\]", line)
        assert match, line
        assert match[1] in CATALOGUE


def test_no_message_shows_a_secret() -> None:
    assert not any("hunter2" in says for _, says in CASES.values())


def test_faults_know_each_fault() -> None:
    with pytest.raises(Faults) as raised:
        parse_job(CASES["many at once"][0], "shop.yaml", [PLUGINS])
    faults = raised.value.faults
    assert len(faults) == 8
    assert all(isinstance(fault, ConfigError) and fault.line for fault in faults)
    assert str(pickle.loads(pickle.dumps(raised.value))) == str(raised.value)


def test_not_utf8(tmp_path: Path) -> None:
    path = tmp_path / "shop.yaml"
    path.write_bytes(b"job: shop\nsource: M\xfcller\n")
    with pytest.raises(ConfigError) as raised:
        load_job(path)
    assert str(raised.value) == f"{path}:2:10: the file is not UTF-8; save it as UTF-8 [C101]"


def test_no_file(tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as raised:
        load_job(tmp_path / "no.yaml")
    assert str(raised.value) == f"{tmp_path}/no.yaml: cannot be read: No such file or directory [C101]"


def test_a_directory_tells_the_faults_of_all_files(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text(MINIMAL)
    (tmp_path / "b.yml").write_text(MINIMAL)
    (tmp_path / "c.yaml").write_text("job: [\n")
    with pytest.raises(Faults) as raised:
        load_directory(tmp_path, [PLUGINS])
    assert str(raised.value).splitlines() == [
        f"{tmp_path}/b.yml:2:6 job: the job name 'shop' is taken; by {tmp_path}/a.yaml [C122]",
        f"{tmp_path}/c.yaml:1:6: what opens here is not closed; close it, or quote the text [C102]",
    ]


def test_a_directory_with_an_unreadable_file_and_none_at_all(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_bytes(b"job: \xff\n")
    with pytest.raises(Faults, match="not UTF-8"):
        load_directory(tmp_path, [PLUGINS])
    with pytest.raises(ConfigError, match="no: is not a folder; create it"):
        load_directory(tmp_path / "no", [PLUGINS])


def test_a_directory_of_good_files(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text(MINIMAL)
    (tmp_path / "b.yaml").write_text(MINIMAL.replace("job: shop", "job: other"))
    (tmp_path / "syncd.yaml").write_text("workers: 3\n")
    assert [job.name for job in load_directory(tmp_path, [PLUGINS])] == ["shop", "other"]


def test_an_alias_bomb_is_refused() -> None:
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 10)}]" for i in range(1, 9)]
    with pytest.raises(Faults, match="the aliases make the file too large"):
        parse_job("\n".join(lines), "shop.yaml", [PLUGINS])


def test_a_value_from_a_reference_is_not_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SECRET", "hunter two")
    text = MINIMAL.replace('"http://ch"}', '"http://ch"}, deletes: "${env:SECRET}"')
    with pytest.raises(Faults) as raised:
        parse_job(text + "mode: ${env:SECRET}\nstart: {gtid: x}\n", "shop.yaml", [PLUGINS])
    assert "hunter" not in str(raised.value)
    assert str(raised.value).count("***") == 3


@pytest.mark.parametrize("text", ["[" * 600 + "]" * 600, "{a: " * 600 + "1" + "}" * 600])
def test_a_file_that_is_nested_too_deeply(text: str) -> None:
    with pytest.raises(Faults, match=r"shop\.yaml:1:1: the file is nested too deeply \[C102\]"):
        parse_job(text, "shop.yaml", [PLUGINS])
