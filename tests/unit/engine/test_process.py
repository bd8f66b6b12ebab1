"""A worker process and the signals of a terminal."""

from __future__ import annotations

import multiprocessing
import os
import re
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from subprocess import PIPE

import pytest

from syncd.config import Service, parse_job
from syncd.engine.build import Parts
from syncd.engine.process import Link, Worker, fork_server
from syncd.errors import FatalError, TransientError
from tests import plugins

JOB = """\
job: shop
source: {mysql: {url: "mysql://root@127.0.0.1:1"}}
tables: {"shop.*": {}}
sinks: {copy: {sqlite_versioned: {path: sink.db}}}
"""


def say(link: Link, _parts: Parts) -> None:
    link.send("here")


def stay(link: Link, _parts: Parts) -> None:
    link.send(("parent", os.getppid()))
    link.stop.wait()


def drain(link: Link, _parts: Parts) -> None:
    stay(link, _parts)
    time.sleep(0.3)
    link.send(("drained", os.getpid()))


def parts(folder: Path) -> Parts:
    return Parts(parse_job(JOB, "shop.yaml", [plugins.FOLDER]), Service(data=folder))


def heard_of(worker: Worker) -> int:
    """The worker's parent."""
    end = time.monotonic() + 60
    while time.monotonic() < end:
        for word in worker.words():
            if isinstance(word, tuple):
                return int(word[1])
        time.sleep(0.01)
    raise AssertionError("nothing was said")


def comm(pid: int) -> str:
    """What the kernel calls a process; "" for none, and for one that has ended."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return ""
    return "" if stat.rpartition(")")[2].split()[0] == "Z" else stat.partition("(")[2].rpartition(")")[0]


def test_workers_are_forks_of_a_process_of_one_thread(tmp_path: Path) -> None:
    """A second one could hold a lock at that moment."""
    one, two = (Worker(name, parts(tmp_path), stay) for name in ("capture shop", "deliver/copy shop"))
    server = heard_of(one)
    assert server == heard_of(two) != os.getpid()
    assert [*Path(f"/proc/{server}/task").iterdir()] == [Path(f"/proc/{server}/task/{server}")]
    assert (comm(server), comm(one.pid), comm(two.pid)) == ("syncd workers", "capture shop", "deliver/copy sh")
    assert re.search(r"^THP_enabled:\s*0$", Path(f"/proc/{one.pid}/status").read_text(), re.MULTILINE)
    opened = {os.readlink(fd) for fd in Path(f"/proc/{server}/fd").iterdir()}
    assert not {name for name in opened if name.startswith("/") and not name.startswith(("/dev/", "/proc/"))} - {
        os.readlink(f"/proc/self/fd/{number}") for number in range(3)
    }
    for worker in (one, two):
        worker.kill()
        assert worker.exitcode == -signal.SIGKILL
        worker.close()


DAEMON = """
import os, sys
from pathlib import Path
from subprocess import PIPE
from syncd.engine.process import Worker, fork_server
from tests.unit.engine.test_process import heard_of, parts, stay

if __name__ == "__main__":
    with fork_server():
        worker = Worker("one", parts(Path(sys.argv[1])), stay)
        print(heard_of(worker), worker.pid, flush=True)
        sys.stdin.read()
"""


@pytest.mark.parametrize("victim", ["daemon", "server"])
def test_workers_die_with_the_daemon_and_with_their_server(tmp_path: Path, victim: str) -> None:
    script = tmp_path / "daemon.py"
    script.write_text(DAEMON)
    environment = os.environ | {"PYTHONPATH": str(Path(__file__).parents[3])}
    with subprocess.Popen([sys.executable, script, tmp_path], stdin=PIPE, stdout=PIPE, env=environment) as daemon:
        assert daemon.stdout is not None
        server, worker = map(int, daemon.stdout.readline().split())
        assert comm(worker) == "one"
        os.kill({"daemon": daemon.pid, "server": server}[victim], signal.SIGKILL)
        end = time.monotonic() + 10
        while (comm(server) or comm(worker)) and time.monotonic() < end:
            time.sleep(0.01)
        assert (comm(server), comm(worker)) == ("", "")


def test_ctrl_c_while_a_worker_starts_is_its_parents_business(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    before = signal.pthread_sigmask(signal.SIG_BLOCK, ())  # an embedded engine in this process blocks some
    worker = Worker("one", parts(tmp_path), say)
    heard: list[object] = []
    end = time.monotonic() + 60
    while "here" not in heard and worker.alive and time.monotonic() < end:
        os.kill(worker.pid, signal.SIGINT)
        heard += worker.words()
        time.sleep(0.01)
    heard += worker.words()
    worker.close()
    assert "here" in heard
    assert capfd.readouterr().err == ""
    assert signal.pthread_sigmask(signal.SIG_BLOCK, ()) == before


def test_a_service_manager_that_ends_all_processes_lets_workers_drain(tmp_path: Path) -> None:
    worker = Worker("one", parts(tmp_path), drain)
    server = heard_of(worker)
    for pid in (server, worker.pid):
        os.kill(pid, signal.SIGTERM)
    assert heard_of(worker) == worker.pid
    worker.close()


def test_a_server_that_is_stopped_or_cannot_be_reached_is_made_anew(tmp_path: Path) -> None:
    with fork_server():
        one = Worker("one", parts(tmp_path), stay)
        stopped = heard_of(one)
        os.kill(stopped, signal.SIGSTOP)
        two = Worker("two", parts(tmp_path), stay)
        second = heard_of(two)
        assert second != stopped
        assert comm(stopped) == ""
        shutil.rmtree(multiprocessing.current_process()._config["tempdir"])  # type: ignore[attr-defined]
        with pytest.raises(TransientError, match="three could not be started"):
            Worker("three", parts(tmp_path), stay)
        three = Worker("three", parts(tmp_path), stay)
        assert heard_of(three) != second
        for worker in (one, two, three):
            worker.kill()
            worker.close()
    assert comm(second) == ""


@contextmanager
def files_left(number: int) -> Iterator[None]:
    """This process may open so many more."""
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    taken: list[int] = []
    resource.setrlimit(resource.RLIMIT_NOFILE, (100 + len([*Path("/proc/self/fd").iterdir()]), limits[1]))
    try:
        with suppress(OSError):
            while True:
                taken.append(os.open("/dev/null", os.O_RDONLY))
        for _ in range(number):
            os.close(taken.pop())
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, limits)
        for fd in taken:
            os.close(fd)


def test_a_daemon_that_is_short_of_files_keeps_its_workers(tmp_path: Path) -> None:
    here = parts(tmp_path)
    with fork_server():
        one = Worker("one", here, stay)
        server = heard_of(one)
        for left in range(0, 16, 3):
            with files_left(left), pytest.raises(TransientError, match="could not be started"):
                Worker("two", here, stay)
            assert comm(server) == "syncd workers"
        one.kill()
        one.close()


def test_the_folder_for_temporary_files_is_the_one_that_was_there_first(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The daemon has one in its data directory then, of which the name may be too long."""
    monkeypatch.setattr(tempfile, "tempdir", None)
    long = tmp_path / ("long" * 25)
    long.mkdir()
    with fork_server():
        monkeypatch.setenv("TMPDIR", str(long))
        worker = Worker("one", parts(long), stay)
        heard_of(worker)
        worker.kill()
        worker.close()
    assert [*long.iterdir()] == []


def test_without_a_folder_for_temporary_files_that_of_the_data_is_taken(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = Path(tempfile.mkdtemp())
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / ("long" * 30)))
    with fork_server():
        worker = Worker("one", parts(data), stay)
        heard_of(worker)
        assert [path.name.partition("-")[0] for path in data.iterdir()] == ["socket"]
        worker.kill()
        worker.close()
    data.rmdir()
    long = tmp_path / ("long" * 25)
    long.mkdir()
    with pytest.raises(FatalError, match="no folder is there for a socket"), fork_server():
        Worker("one", parts(long), stay)
