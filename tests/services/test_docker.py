"""The way over an image, with a stand-in for `docker` that starts MariaDB's unpacked program: no engine runs in CI."""

from __future__ import annotations

import sys
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest

from syncd.testing.servers import MariaDB, OceanBase, Server, ServerUnavailable, docker, mariadb, wheels
from syncd.testing.servers.base import Program
from syncd.testing.servers.oceanbase import WHEEL
from tests.services.database import connect

# Keeps the process of each named container, as the engine would; the words up to the image are what we told docker.
_STAND_IN = """#!{python}
import os, pathlib, signal, sys
here = pathlib.Path(__file__).parent
verb, *words = sys.argv[1:]
if verb == "info":
    sys.exit(0)
if verb == "kill":
    number = next((w.partition("=")[2] for w in words if w.startswith("--signal=")), "SIGKILL")
    os.kill(int((here / words[-1]).read_text()), signal.Signals[number])
    sys.exit(0)
assert verb == "run", verb
image = words.index("{image}")
told = dict(w.partition("=")[::2] for w in words[:image])
assert told["--network"] == "host"
folder = told["--volume"].partition(":")[0]
(here / told["--name"]).write_text(str(os.getpid()))
args = words[image + 1:]
if told["--entrypoint"] == "mariadb-install-db":
    os.rmdir(folder + "/data")
    os.rename(here / "data", folder + "/data")
    sys.exit(0)
os.execv({command!r}[0], {command!r} + args + {options!r})
"""


@pytest.fixture
def engine(mariadb: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Program:
    """Puts the stand-in on PATH and makes it the only way to MariaDB."""
    real = type(mariadb).program()
    folder = tmp_path / "bin"
    folder.mkdir()
    MariaDB.initialise(real, folder / "data", folder / "init.log")
    program = folder / "docker"
    own = [o for o in real.options if not o.startswith("--basedir")]
    program.write_text(
        _STAND_IN.format(python=sys.executable, image=MariaDB.image, command=list(real.command), options=own)
    )
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}:/usr/bin:/bin")
    monkeypatch.setenv("SYNCD_CACHE", str(tmp_path / "cache"))
    return real


def _nothing_unpacks(*_: object, **__: object) -> None:
    raise ServerUnavailable("no apt here")


def test_server_in_a_container(engine: Program, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mariadb, "unpack", _nothing_unpacks)
    monkeypatch.setattr("shutil.which", lambda name, **_: None if name == "mariadbd" else f"/bin/{name}")
    with MariaDB() as server:
        with closing(connect(server)) as connection, connection.cursor() as cursor:
            cursor.execute("CREATE DATABASE d")
        server.kill()
        server.start()
        server.freeze()
        server.thaw()
        with closing(connect(server)) as connection, connection.cursor() as cursor:
            cursor.execute("SHOW DATABASES LIKE 'd'")
            assert cursor.fetchall() == (("d",),)
    assert not server.dir.exists()


def test_no_way_at_all_says_what_was_tried(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mariadb, "unpack", _nothing_unpacks)
    monkeypatch.setattr("shutil.which", lambda *_, **__: None)
    with pytest.raises(ServerUnavailable) as caught:
        MariaDB.program()
    assert str(caught.value).splitlines() == [
        "MariaDB cannot be had here",
        "  tried: mariadbd on PATH: absent",
        "  tried: no apt here",
        "  tried: Docker: no engine",
        "  to do: install mariadb-server-core, or let apt-get reach this machine's mirror, or start Docker",
    ]
    assert not docker.engine_runs()


@pytest.mark.oceanbase
def test_oceanbase_in_a_container(oceanbase: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = Path(type(oceanbase).program().command[0])
    folder = tmp_path / "bin"
    folder.mkdir()
    program = folder / "docker"
    program.write_text(
        _STAND_IN.format(python=sys.executable, image=OceanBase.image, command=["/usr/bin/env"], options=[])
    )
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}:{real.parent}:/usr/bin:/bin")
    monkeypatch.setattr(wheels, "fetch", _nothing_unpacks)
    monkeypatch.setenv("SYNCD_CACHE", str(tmp_path / "cache"))
    with OceanBase() as server:
        assert server.version == oceanbase.version
        assert b"TELEMETRY_ENABLED=false" in Path(f"/proc/{server.pid}/environ").read_bytes().split(b"\0")
        server.kill()
        server.start()
    assert not server.dir.exists()


def test_pip_without_an_index_is_told_without_addresses(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(docker, "engine_runs", lambda: False)
    monkeypatch.setenv("SYNCD_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("PIP_INDEX_URL", "http://127.0.0.1:9/simple")
    monkeypatch.setenv("PIP_FIND_LINKS", "")
    monkeypatch.setenv("PIP_RETRIES", "0")
    with pytest.raises(ServerUnavailable) as caught:
        OceanBase.program()
    told = str(caught.value)
    assert told.startswith("OceanBase cannot be had here\n  tried: pip cannot get pylibseekdb==")
    assert "No matching distribution found" in told
    assert told.endswith("  tried: Docker: no engine\n  to do: let pip reach its index, or start Docker")
    assert "127.0.0.1" not in told
    assert not any((tmp_path / "cache" / "roots").iterdir())


@pytest.mark.oceanbase
def test_wheel_of_another_hash_is_refused(oceanbase: Server, tmp_path: Path) -> None:
    other = replace(WHEEL, sha256=dict.fromkeys(WHEEL.sha256, "0" * 64))
    with pytest.raises(ServerUnavailable, match="DO NOT MATCH THE HASHES"):
        wheels.fetch(other, tmp_path, what="a test", say=lambda _: None)
    assert not (tmp_path / "pylibseekdb").exists()
