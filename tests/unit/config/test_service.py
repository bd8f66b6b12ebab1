"""The service file."""

from __future__ import annotations

from pathlib import Path

import pytest

from syncd.config import Faults, load_service

TAKE_OUT = "it comes with a later version of syncd; take it out for now"


def test_defaults(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    service = load_service(None)
    assert service.data == tmp_path / "syncd-data"
    assert (service.readers, service.workers, service.log.level) == (None, 2, "info")


def test_paths_count_from_the_file(tmp_path: Path) -> None:
    path = tmp_path / "syncd.yaml"
    path.write_text("data: /var/lib/syncd\nplugin_paths: [plugins]\nheartbeat: 500ms\nlog: {level: debug}\n")
    service = load_service(path)
    assert (service.data, service.jobs) == (Path("/var/lib/syncd"), tmp_path / "jobs")
    assert service.plugin_paths == [tmp_path / "plugins"]
    assert (service.heartbeat, service.log.level) == (0.5, "debug")


def test_faults(tmp_path: Path) -> None:
    path = tmp_path / "syncd.yaml"
    path.write_text("workers: 0\nlog: {levl: info, format: xml}\nmetrics: {port: 9000}\n")
    with pytest.raises(Faults) as raised:
        load_service(path)
    assert str(raised.value).splitlines() == [
        f"{path}:1:10 workers: must be at least 1 [C109]",
        f"{path}:2:7 log.levl: unknown key; did you mean 'level'? [C105]",
        f"{path}:2:27 log.format: 'xml' is not a value of this setting; one of: auto, json, text [C109]",
        f"{path}:3:17 metrics.port: serving metrics is not there yet; {TAKE_OUT} [C130]",
    ]


def test_not_yet(tmp_path: Path) -> None:
    path = tmp_path / "syncd.yaml"
    path.write_text("metrics: {port: 9000}\n")
    with pytest.raises(Faults, match=r"syncd.yaml:1:17 metrics.port: serving metrics is not there yet.*\[C130\]"):
        load_service(path)
