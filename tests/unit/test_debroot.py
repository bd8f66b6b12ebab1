"""Unpacked packages: whole or not there, with their own loader, and no word about the mirror's address."""

from __future__ import annotations

import os
import threading
from pathlib import Path

import pytest

from syncd.testing.servers.apt_sources import Source
from syncd.testing.servers.cache import build_once, cache_dir
from syncd.testing.servers.debroot import Apt, Root, _relink, unpack
from syncd.testing.servers.errors import ServerUnavailable
from syncd.testing.servers.truststore import write_truststore

SOURCE = Source(("http://private.example/debian",), ("sid",), ("main",))


@pytest.fixture
def path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of programs before all others, and a cache of the test's own."""
    folder = tmp_path / "bin"
    folder.mkdir()
    monkeypatch.setenv("PATH", f"{folder}:{os.environ['PATH']}")
    monkeypatch.setenv("SYNCD_CACHE", str(tmp_path / "cache"))
    return folder


def program(path: Path, text: str) -> None:
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)


def test_failure_of_apt_is_told_without_the_mirror(path: Path, tmp_path: Path) -> None:
    program(path / "dpkg", "echo amd64")
    program(path / "apt-get", "echo 'E: Failed to fetch http://user:pass@private.example/x  404' >&2; exit 100")
    with pytest.raises(ServerUnavailable) as caught:
        Apt(tmp_path / "apt", [SOURCE], lambda _: None).refresh()
    assert "private.example" not in str(caught.value)
    assert caught.value.tried == ("E: Failed to fetch <mirror>  404",)
    assert "apt-get update" in caught.value.hint


def test_size_is_told_before_the_download(path: Path, tmp_path: Path) -> None:
    program(path / "dpkg", "echo amd64")
    listed = ["'http://private.example/a.deb' a.deb 1500000 SHA256:0", "'http://private.example/b.deb' b.deb 250000 x"]
    (tmp_path / "listed").write_text("\n".join(listed))
    text = 'case "$*" in *--print-uris*) cat {0}/listed;; *) echo downloaded >>{0}/log;; esac'
    program(path / "apt-get", text.format(tmp_path))
    said: list[str] = []
    (tmp_path / "log").touch()

    def say(line: str) -> None:
        assert (tmp_path / "log").read_text() == ""
        said.append(line)

    Apt(tmp_path / "apt", [SOURCE], say).download(["a"], tmp_path / "debs", "A thing", only=False)
    assert said == [f"A thing: downloading 2 packages, 1.8 MB, with apt into {cache_dir()}"]
    assert (tmp_path / "log").read_text() == "downloaded\n"


def test_machine_without_apt_says_what_to_do(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(path))
    with pytest.raises(ServerUnavailable, match="there is no apt-get\n  to do: use a Debian or Ubuntu machine"):
        unpack(["anything"])


def test_loader_among_the_libraries_wins(tmp_path: Path) -> None:
    for name in ("lib64/ld-linux-x86-64.so.2", "usr/lib/x86_64-linux-gnu/ld-linux-x86-64.so.2"):
        (tmp_path / name).parent.mkdir(parents=True)
        (tmp_path / name).touch()
    libraries = tmp_path / "usr/lib/x86_64-linux-gnu"
    words = [str(libraries / "ld-linux-x86-64.so.2"), "--library-path", str(libraries), str(tmp_path / "usr/bin/x")]
    assert Root(tmp_path).command("usr/bin/x") == words


def test_absolute_links_stay_inside(tmp_path: Path) -> None:
    (tmp_path / "etc/app").mkdir(parents=True)
    (tmp_path / "usr/share").mkdir(parents=True)
    (tmp_path / "usr/share/conf").symlink_to("/etc/app")
    (tmp_path / "usr/share/machine").symlink_to("/etc/passwd")
    _relink(tmp_path)
    assert os.readlink(tmp_path / "usr/share/conf") == "../../etc/app"
    assert os.readlink(tmp_path / "usr/share/machine") == "/etc/passwd"


def test_folder_is_built_once_and_whole(path: Path, tmp_path: Path) -> None:
    built: list[Path] = []

    def build(folder: Path) -> None:
        built.append(folder)
        (folder / "one").touch()
        assert not (tmp_path / "target").exists()
        (folder / "two").touch()

    threads = [threading.Thread(target=build_once, args=(tmp_path / "target", build)) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(built) == 1
    assert sorted(p.name for p in (tmp_path / "target").iterdir()) == ["one", "two"]


def test_failed_build_leaves_nothing(path: Path, tmp_path: Path) -> None:
    folder = tmp_path / "built"

    def build(_: Path) -> None:
        raise ServerUnavailable("no")

    with pytest.raises(ServerUnavailable):
        build_once(folder / "target", build)
    assert list(folder.iterdir()) == []


def test_truststore_is_in_javas_format(tmp_path: Path) -> None:
    written = write_truststore(tmp_path / "store.jks")
    if written is None:
        pytest.skip("this machine trusts no certificate authority (apt-get install ca-certificates)")
    data = written.read_bytes()
    assert data[:8] == bytes.fromhex("feedfeed00000002")
    assert int.from_bytes(data[8:12], "big") > 0
