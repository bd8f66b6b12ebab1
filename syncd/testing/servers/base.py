"""A database server as a child process: start, stop, kill, freeze, with nothing left behind.

A system's own file says how its program is obtained and with which options; everything else is here.
"""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import tempfile
import time
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import ClassVar, Self

from syncd.testing.servers import docker
from syncd.testing.servers.cache import Say, build_once, cache_dir, say_stderr
from syncd.testing.servers.errors import ServerUnavailable
from syncd.testing.servers.guard import Guard
from syncd.testing.servers.ports import free_port, is_free

START_SECONDS = 60.0
STOP_SECONDS = 20.0
_TICK = 0.02
_SOCKET_PATH_LIMIT = 100
_CLASH = re.compile(r"Address already in use|bind on TCP/IP port", re.IGNORECASE)


@dataclass(frozen=True)
class Program:
    """How to run a server's program: the first words of its command line, and what it needs around it.

    With `image`, `command` is a program inside that image, which a container runs.
    """

    command: Sequence[str]
    options: Sequence[str] = ()
    env: Mapping[str, str] = field(default_factory=dict)
    key: str = ""
    """Names this program and release: data directories are kept by it."""
    image: str = ""

    def words(self, folder: Path, container: str = "") -> list[str]:
        """The first words of a command line that works in `folder`."""
        if not self.image:
            return list(self.command)
        name = container or docker.new_name()
        return docker.run_command(self.image, self.command[0], folder=str(folder), name=name)


def server_user() -> list[str]:
    """The option that lets the server run as this user, which it refuses to root unless told."""
    return ["--user=root"] if os.geteuid() == 0 else []


class Server(ABC):
    """One server on 127.0.0.1, for `root` without a password; a child of this process and gone with it.

    `folder` holds its data and log; without one, a temporary folder is made, and removed by `close`.
    `port` is picked if not given. `options` are put last on the command line, so they win.
    ServerUnavailable from `start` says what was tried and what to do.
    """

    name: ClassVar[str]
    flavour: ClassVar[str]
    """'mariadb', 'mysql' or 'oceanbase'."""

    def __init__(
        self, folder: Path | None = None, port: int | None = None, options: Sequence[str] = (), *, say: Say = say_stderr
    ) -> None:
        self._temporary = folder is None
        self.dir = Path(tempfile.mkdtemp(prefix="syncd-")) if folder is None else folder.resolve()
        self._fixed_port = port
        self.port = port or 0
        self.options = tuple(options)
        self.version = ""
        self._say = say
        self._process: subprocess.Popen[bytes] | None = None
        self._guard: Guard | None = None
        self._container = ""

    # -- what a system adds ------------------------------------------------------------------------------------------

    @classmethod
    @abstractmethod
    def program(cls, say: Say = say_stderr) -> Program:
        """Obtain the server's program, at need by a download; ServerUnavailable when there is no way here."""

    @classmethod
    @abstractmethod
    def initialise(cls, program: Program, data: Path, log: Path) -> None:
        """Fill the empty data directory `data`, with `root` free of a password; ServerUnavailable if it fails."""

    @abstractmethod
    def server_options(self) -> list[str]:
        """The options of a running server that this system needs, beyond folder, port and socket."""

    def arguments(self, program: Program) -> list[str]:
        """All that follows the program's first words on the command line of a running server."""
        return [
            "--no-defaults",
            *program.options,
            *server_user(),
            f"--datadir={self.data}",
            f"--tmpdir={self.dir / 'tmp'}",
            f"--socket={self.socket}",
            f"--pid-file={self.dir / 'server.pid'}",
            "--bind-address=127.0.0.1",
            f"--port={self.port}",
            f"--server-id={self.port}",
            *self.server_options(),
            *self.options,
        ]

    def ready(self) -> str:
        """The server's version once it takes connections, before that nothing."""
        text = self.log.read_text(errors="replace")
        found = re.search(rf"ready for connections.*?Version: '([^']+)'[^\n]*port: {self.port}\b", text, re.DOTALL)
        return found[1] if found else ""

    def last_words(self) -> list[str]:
        """The last lines that a server which did not start has written."""
        return self.log.read_text(errors="replace").splitlines()[-8:]

    # -- life --------------------------------------------------------------------------------------------------------

    @property
    def socket(self) -> Path:
        """Its Unix socket."""
        return self.dir / "s.sock"

    @property
    def data(self) -> Path:
        """Its data directory."""
        return self.dir / "data"

    @property
    def log(self) -> Path:
        """The log of its latest start."""
        return self.dir / "server.log"

    @property
    def pid(self) -> int | None:
        """Its process id while it runs."""
        return self._process.pid if self.running and self._process else None

    @property
    def running(self) -> bool:
        """Whether its process is there, frozen or not."""
        return self._process is not None and self._process.poll() is None

    def start(self) -> Self:
        """Start and return when it takes connections; a data directory that is there already is used again."""
        if self.running:
            return self
        program = self.program(self._say)
        self._prepare(program)
        for _ in range(5):
            if not self._fixed_port:
                # a restart keeps the port: clients know it
                self.port = self.port if self.port and is_free(self.port) else free_port()
            if self._launch(program):
                return self
            if self._fixed_port:
                break
            self.port = 0
        raise ServerUnavailable(f"{self.name}: port {self._fixed_port or 'after port'} is taken", hint="end its owner")

    def stop(self) -> None:
        """Shut down in order (SIGTERM), by force if that takes too long; data and folder stay."""
        if self._process is None:
            return
        if self.running:
            self.thaw()
            self._signal(signal.SIGTERM)
            try:
                self._process.wait(STOP_SECONDS)
            except subprocess.TimeoutExpired:
                self._signal(signal.SIGKILL)
        self._reap()

    def kill(self) -> None:
        """End it with SIGKILL, as a crash would."""
        if self._process is not None:
            if self.running:
                self._signal(signal.SIGKILL)
            self._reap()

    def restart(self) -> Self:
        """Stop in order and start on the same data and port."""
        self.stop()
        return self.start()

    def freeze(self) -> None:
        """Stop its clock (SIGSTOP): connections stay open and nothing answers."""
        self._signal(signal.SIGSTOP)

    def thaw(self) -> None:
        """Let a frozen server go on."""
        self._signal(signal.SIGCONT)

    def close(self) -> None:
        """Stop it and remove its folder if that was temporary."""
        if self._temporary:
            self.kill()  # nobody reads this data again, so an orderly shutdown would only take time
            shutil.rmtree(self.dir, ignore_errors=False)
            self._temporary = False
        else:
            self.stop()

    def __enter__(self) -> Self:
        try:
            return self.start()
        except BaseException:
            self.close()
            raise

    def __exit__(self, kind: type[BaseException] | None, e: BaseException | None, tb: TracebackType | None) -> None:
        self.close()

    # -- parts -------------------------------------------------------------------------------------------------------

    def _signal(self, number: signal.Signals) -> None:
        if not self.running or self._process is None:
            raise RuntimeError(f"{self.name} is not running")
        if self._container:
            docker.signal_container(self._container, number.name)
        else:
            self._process.send_signal(number)

    def _reap(self) -> None:
        if self._process is not None:
            self._process.wait()
            self._process = None
        if self._guard is not None:
            self._guard.release()
            self._guard = None

    def _prepare(self, program: Program) -> None:
        if len(str(self.socket)) > _SOCKET_PATH_LIMIT:
            raise ServerUnavailable(f"{self.name}: {self.socket} is too long for a socket", hint="use a shorter TMPDIR")
        self.dir.mkdir(parents=True, exist_ok=True)
        (self.dir / "tmp").mkdir(exist_ok=True)
        if not self.data.exists():
            template = build_once(
                cache_dir() / "templates" / program.key,
                lambda folder: self.initialise(program, folder / "data", folder / "init.log"),
            )
            # holes stay holes: most of a fresh redo log is zeroes
            subprocess.run(["cp", "-a", "--sparse=always", str(template / "data"), str(self.data)], check=True)
        for stale in (self.socket, self.socket.with_name("s.sock.lock")):
            stale.unlink(missing_ok=True)

    def _launch(self, program: Program) -> bool:
        """Start the process and wait for it; False if another process took the port first."""
        self._container = docker.new_name() if program.image else ""
        words = [*program.words(self.dir, self._container), *self.arguments(program)]
        # opened anew for each start: an old line must not say that the new process is ready
        with self.log.open("wb") as log:
            self._process = subprocess.Popen(
                words,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                cwd=self.dir,
                env={**os.environ, **program.env},
                start_new_session=True,
            )
        self._guard = Guard(self._process.pid, self.dir if self._temporary else None, self._container)
        return self._await_ready()

    def _await_ready(self) -> bool:
        deadline = time.monotonic() + START_SECONDS
        while True:
            ended = not self.running
            if version := self.ready():
                self.version = version
                return True
            if ended or time.monotonic() > deadline:
                self.kill()
                if _CLASH.search(self.log.read_text(errors="replace")) or (ended and not is_free(self.port)):
                    return False
                why = "ended at once" if ended else f"was not ready in {START_SECONDS:.0f} s"
                raise ServerUnavailable(f"{self.name} {why}", self.last_words(), "the lines above are its log's last")
            time.sleep(_TICK)


def run_to_end(
    what: str, words: Sequence[str], *, log: Path, stdin: str = "", env: Mapping[str, str] | None = None
) -> None:
    """Run a program until it ends, its output in `log`; ServerUnavailable with the last lines if it fails."""
    with log.open("wb") as out:
        done = subprocess.run(
            words, input=stdin.encode(), stdout=out, stderr=subprocess.STDOUT, env={**os.environ, **(env or {})}
        )
    if done.returncode:
        raise ServerUnavailable(f"{what} failed", log.read_text(errors="replace").splitlines()[-8:])
