"""The service file."""

from __future__ import annotations

from pathlib import Path

import pytest

from syncd.config import Faults, load_service

LISTEN = "as in 127.0.0.1:7962; 0.0.0.0:7962 is every address of the machine; off serves nothing"


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
    path.write_text("workers: 0\nlog: {levl: info, format: xml}\nmetrics: {listen: 9000}\n")
    with pytest.raises(Faults) as raised:
        load_service(path)
    assert str(raised.value).splitlines() == [
        f"{path}:1:10 workers: must be at least 1 [C109]",
        f"{path}:2:7 log.levl: unknown key; did you mean 'level'? [C105]",
        f"{path}:2:27 log.format: 'xml' is not a value of this setting; one of: auto, json, text [C109]",
        f"{path}:3:19 metrics.listen: '9000' is not HOST:PORT; {LISTEN} [C108]",
    ]


@pytest.mark.parametrize(
    ("said", "address"),
    [
        ("", ("127.0.0.1", 7962)),
        ("listen: off", None),
        ("listen: 0.0.0.0:80", ("0.0.0.0", 80)),
        ('listen: "[::1]:9000"', ("::1", 9000)),
        ("listen: metrics.local:0", ("metrics.local", 0)),
    ],
)
def test_where_metrics_are_served(tmp_path: Path, said: str, address: tuple[str, int] | None) -> None:
    path = tmp_path / "syncd.yaml"
    path.write_text(f"metrics: {{{said}}}\n")
    assert load_service(path).metrics.address == address


@pytest.mark.parametrize("said", ["9000", '":9000"', "localhost", "http://localhost:9000/", "127.0.0.1:70000", "on"])
def test_what_is_no_address(tmp_path: Path, said: str) -> None:
    path = tmp_path / "syncd.yaml"
    path.write_text(f"metrics: {{listen: {said}}}\n")
    with pytest.raises(Faults, match=r"syncd.yaml:1:19 metrics.listen: .* is not HOST:PORT.*\[C108\]"):
        load_service(path)
