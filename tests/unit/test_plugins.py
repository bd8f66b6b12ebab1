"""Finding and loading plugins."""

from __future__ import annotations

import subprocess
import sys
from importlib.metadata import EntryPoint
from pathlib import Path

import pytest

from syncd import plugins
from syncd.errors import PluginError

SINK = """
class Sink:
    class Options: ...
    def prepare(self): ...
"""


def points(monkeypatch: pytest.MonkeyPatch, **found: str) -> None:
    group = {name: EntryPoint(name, value, "syncd.sinks") for name, value in found.items()}
    monkeypatch.setattr(plugins, "_entries", lambda kind: group if kind == "sink" else {})


def test_a_file_is_a_plugin(tmp_path: Path) -> None:
    (tmp_path / "files.py").write_text(SINK)
    assert "files" in plugins.names("sink", [tmp_path])
    assert "files" not in plugins.names("source", [tmp_path])
    assert plugins.load("sink", "files", [tmp_path]).__name__ == "Sink"
    assert plugins.load("sink", "files", [tmp_path]) is plugins.load("sink", "files", [tmp_path])


def test_a_file_may_inherit_its_plugin_and_is_of_that_kind_only(tmp_path: Path) -> None:
    text = "from syncd.testing.sinks import ArrivalSink\nclass Sink(ArrivalSink): ...\n"
    (tmp_path / "files.py").write_text(text)
    assert [p.kind for p in plugins.available([tmp_path]) if p.name == "files"] == ["sink"]
    assert plugins.load("sink", "files", [tmp_path]).__module__ != "syncd.testing.sinks"


def test_a_file_goes_before_an_entry_point(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    points(monkeypatch, files="nowhere:Sink")
    (tmp_path / "files.py").write_text(SINK)
    assert plugins.load("sink", "files", [tmp_path]).__name__ == "Sink"


def test_an_entry_point_is_loaded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    points(monkeypatch, thing="things_of_a_test:Sink")
    (tmp_path / "things_of_a_test.py").write_text(SINK)
    monkeypatch.syspath_prepend(tmp_path)
    assert plugins.load("sink", "thing").__name__ == "Sink"


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("clickhose", "no sink plugin is named 'clickhose'; did you mean 'clickhouse'? [E112]"),
        ("zzz", "no sink plugin is named 'zzz'; there is: broken, clickhouse, foreign, odd [E112]"),
        ("kafka", "sink plugin 'kafka' is not there yet; it comes with a later version of syncd [E111]"),
        (
            "clickhouse",
            (
                "sink plugin 'clickhouse' needs the module 'no_such_driver'; "
                "pip install '.[clickhouse]' in the checkout of syncd [E110]"
            ),
        ),
        ("foreign", "sink plugin 'foreign' needs the module 'no_such_driver'; pip install no_such_driver [E110]"),
        ("broken", "sink plugin 'broken' names a class that is not there: json:Sink [E113]"),
        ("odd", "sink plugin 'odd' is not a sink; it needs `Options` and `prepare` (see syncd/spi.py) [E113]"),
    ],
)
def test_what_is_said(name: str, text: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    driver = "needs_a_driver_of_a_test:Sink"
    points(monkeypatch, clickhouse=driver, foreign=driver, broken="json:Sink", odd="json:JSONDecoder")
    (tmp_path / "needs_a_driver_of_a_test.py").write_text("import no_such_driver\n")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(PluginError) as raised:
        plugins.load("sink", name)
    assert str(raised.value) == text


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("import no_such_driver\nclass Sink:\n    def prepare(self): ...\n", "needs the module 'no_such_driver'"),
        ("class Sink:\n    def prepare(self): ...\n1 / 0\n", "cannot be loaded: ZeroDivisionError"),
        ("import sys\nclass Sink:\n    def prepare(self): ...\nsys.exit(0)\n", "cannot be loaded: SystemExit"),
        ("class Sink(\n", "cannot be loaded: SyntaxError"),
        (SINK + SINK.replace("Sink", "Other"), "defines 2 sink classes"),
        ("class Sink:\n    def prepare(self): ...\n", "is not a sink"),
        ("class Nothing: ...\n", "defines 0 sink classes"),
    ],
)
def test_a_broken_file(text: str, says: str, tmp_path: Path) -> None:
    (tmp_path / "files.py").write_text(text)
    with pytest.raises(PluginError, match=says):
        plugins.load("sink", "files", [tmp_path])


def test_a_missing_folder(tmp_path: Path) -> None:
    with pytest.raises(PluginError, match="is not a folder"):
        plugins.names("sink", [tmp_path / "no"])


def test_the_table_of_plugins(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    points(monkeypatch, clickhouse="x:Sink")
    monkeypatch.setattr(plugins, "EXTRAS", {("sink", "clickhouse"): ("clickhouse", ("no_such_driver",))})
    (tmp_path / "files.py").write_text(SINK)
    lines = {(p.kind, p.name): (p.state, p.hint) for p in plugins.available([tmp_path])}
    assert lines["sink", "files"] == ("ready", "")
    assert lines["sink", "clickhouse"] == ("driver missing", "pip install '.[clickhouse]' in the checkout of syncd")
    assert lines["queue", "kafka"][0] == "not yet"


def test_shipped_plugins_are_named() -> None:
    """All that syncd itself brings; what is for tests is not among them."""
    own = {(p.kind, p.name) for p in plugins.available() if p.distribution == "syncd"}
    sinks = {("sink", name) for name in ("clickhouse", "mysql", "oceanbase", "parquet")}
    assert own == {("source", "mysql"), *sinks, ("queue", "embedded")}


def test_nothing_is_imported_that_was_not_asked_for() -> None:
    script = (
        "import sys; from syncd import plugins, config; plugins.available(); plugins.names('source');"
        "print([m for m in sys.modules if m.split('.')[0] in ('pymysql', 'clickhouse_connect', 'chdb', 'sqlglot')"
        " or m.startswith(('syncd.sources', 'syncd.sinks', 'syncd.mq'))])"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
