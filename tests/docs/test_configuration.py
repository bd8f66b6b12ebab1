"""docs/configuration.md, docs/errors.md and docs/schema/ say what the code says; configs/ can be run."""

from __future__ import annotations

import ast
import json
import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel

from syncd.catalogue import CATALOGUE, explain
from syncd.config import docs, later, load_job, load_service, not_yet, parse_job

ROOT = Path(__file__).parents[2]
CODE = re.compile(r"[CE]\d{3}")


@pytest.mark.parametrize("name", docs.pages())
def test_a_page_is_not_stale(name: str) -> None:
    written = (ROOT / "docs" / name).read_text(encoding="utf-8")
    assert written == docs.pages()[name], "run `python -m syncd.config.docs`"


@pytest.mark.parametrize(("path", "model"), [*docs.SECTIONS, *docs.SERVICE])
def test_every_setting_is_documented(path: str, model: type[BaseModel]) -> None:
    nameless = [name for name, field in model.model_fields.items() if not field.description]
    assert not nameless, f"{path or 'top level'}: a docstring is missing behind {nameless}"


def test_every_section_is_on_the_page() -> None:
    """No mapping of settings is forgotten by SECTIONS and SERVICE."""
    listed = {model for _, model in (*docs.SECTIONS, *docs.SERVICE)}
    inner = {found for model in listed for field in model.model_fields.values() for found in _models(field.annotation)}
    assert {model.__name__ for model in inner - listed} <= {"SourceBlock"}


LATER = [
    *((docs.SECTIONS, "job", each) for each in later.JOB),
    *((docs.SERVICE, "service", each) for each in later.SERVICE),
]


@pytest.mark.parametrize(("sections", "schema", "each"), LATER, ids=lambda value: getattr(value, "what", ""))
def test_what_is_not_there_yet_is_marked(sections: Any, schema: str, each: later.Later) -> None:
    """In the row of the setting, and in its description for editors."""
    ((path, model),) = [(path, model) for path, model in sections if docs.way(path) == each.setting[:-1]]
    page = (ROOT / "docs/configuration.md").read_text(encoding="utf-8")
    part = page.partition("\n## The service file\n")[2] if schema == "service" else page
    section = part.partition(f"\n### `{path}`\n" if path else f"\n{model.__doc__}\n")[2].partition("\n### ")[0]
    (row,) = [line for line in section.splitlines() if line.startswith(f"| `{each.setting[-1]}` |")]
    assert row.endswith(f" {each.note} |")
    meaning = f"{model.model_fields[each.setting[-1]].description} {each.note}"
    assert json.dumps(meaning) in (ROOT / f"docs/schema/{schema}.json").read_text(encoding="utf-8")


def _models(annotation: Any) -> Iterator[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    for part in getattr(annotation, "__args__", ()):
        yield from _models(part)


@pytest.mark.parametrize("path", sorted(p.name for p in (ROOT / "configs").glob("*.yaml") if p.name != "syncd.yaml"))
def test_a_config_validates_and_can_be_run(path: str, monkeypatch: pytest.MonkeyPatch) -> None:
    text = (ROOT / "configs" / path).read_text(encoding="utf-8")
    for name in re.findall(r"\$\{env:(\w+)\}", text):
        monkeypatch.setenv(name, "secret-of-a-test")
    job = load_job(ROOT / "configs" / path)
    assert not_yet(job) == []
    assert job.findings == ()


def test_the_service_config_shows_the_defaults(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shutil.copy(ROOT / "configs/syncd.yaml", tmp_path)
    monkeypatch.chdir(tmp_path)
    assert load_service(Path("syncd.yaml")) == load_service(None)


def blocks() -> Iterator[tuple[str, str]]:
    """(place, text) of each YAML block of the README and the pages."""
    for page in [ROOT / "README.md", *(ROOT / "docs").rglob("*.md")]:
        text = page.read_text(encoding="utf-8")
        for found in re.finditer(r"^```yaml\n(.*?)^```", text, re.MULTILINE | re.DOTALL):
            yield f"{page.relative_to(ROOT)}:{text[: found.start()].count(chr(10)) + 1}", found[1]


BLOCKS = dict(blocks())
LEAST = {
    "job": "job: least",
    "source": "source: {mysql: {}}",
    "tables": 'tables: {"shop.*": {}}',
    "sinks": 'sinks: {olap: {clickhouse: {url: "http://ch:8123/shop"}}}',
}


def test_the_pages_with_jobs_are_looked_at() -> None:
    assert {place.split(":")[0] for place in BLOCKS} >= {
        "README.md",
        "docs/queues/embedded.md",
        "docs/sinks/clickhouse.md",
        "docs/sources/mysql.md",
    }


@pytest.mark.parametrize("place", BLOCKS)
def test_a_block_of_yaml_is_a_job_or_part_of_one(place: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """That can be run, with nothing to warn of."""
    given = {line.partition(":")[0] for line in BLOCKS[place].splitlines()}
    text = "\n".join([BLOCKS[place], *(line for key, line in LEAST.items() if key not in given)])
    for name in re.findall(r"\$\{env:(\w+)\}", text):
        monkeypatch.setenv(name, "secret-of-a-test")
    job = parse_job(text, place)
    assert not_yet(job) == []
    assert job.findings == ()


# -- the catalogue of errors


def used() -> dict[str, set[str]]:
    """Code -> files that name it: `code="C107"`, also in a class or through a helper."""
    found: dict[str, set[str]] = {}
    for path in (ROOT / "syncd").rglob("*.py"):
        if path.name == "catalogue.py":
            continue
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Constant) and isinstance(node.value, str) and CODE.fullmatch(node.value):
                found.setdefault(node.value, set()).add(str(path.relative_to(ROOT)))
    return found


def test_every_code_is_in_the_catalogue() -> None:
    missing = {code: files for code, files in used().items() if code not in CATALOGUE}
    assert not missing


def test_every_entry_is_used() -> None:
    assert not set(CATALOGUE) - set(used())


@pytest.mark.parametrize("code", CATALOGUE)
def test_every_entry_says_what_to_do(code: str) -> None:
    entry = CATALOGUE[code]
    assert entry.code == code
    assert entry.title
    assert not entry.title.endswith(".")
    assert entry.meaning.endswith(".")
    assert entry.todo.endswith((".", "`."))
    assert code in explain(code.lower())


def test_an_unknown_code() -> None:
    with pytest.raises(KeyError, match="did you mean C107"):
        explain("C1077")


def test_the_schemas_are_json_schemas_of_both_files() -> None:
    job = json.loads((ROOT / "docs" / "schema" / "job.json").read_text())
    assert job["required"] == ["job", "source", "tables", "sinks"]
    assert job["$defs"]["SourceBlock"]["properties"]["mysql"]["properties"]["url"]["description"]
    assert job["$defs"]["SinkBlock"]["additionalProperties"] is False
    references = set(re.findall(r'"#/\$defs/(\w+)"', json.dumps(job)))
    assert references <= set(job["$defs"])
