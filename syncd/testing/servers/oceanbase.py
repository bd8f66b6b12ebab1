"""OceanBase: seekdb, its one-process edition, out of the wheel that carries it."""

from __future__ import annotations

import re
from pathlib import Path
from typing import ClassVar

from syncd.testing.servers import docker, wheels
from syncd.testing.servers.base import Program, Server
from syncd.testing.servers.cache import Say, build_once, cache_dir, say_stderr
from syncd.testing.servers.errors import ServerUnavailable
from syncd.testing.servers.login import ask

_RELEASE = "1.4.0.post1"
WHEEL = wheels.Wheel(
    f"pylibseekdb=={_RELEASE}",
    54,
    python="3.11",
    platform="manylinux_2_28",
    sha256={
        "x86_64": "7c1c1e13148189af1332f69b896a818b674db3a4615c7caf1c9db05055738ad6",
        "aarch64": "3620c821b1a03a961ccfd76cbcc90f2f05d95bc00e4e0a396cb5ae17eb56f059",
    },
)
"""What carries seekdb, for any Python."""

# The least that it starts with. The memory is what it sizes its caches by; the log's size is an upper limit, as it
# recycles files of 64 MB; the data file grows at need.
_SIZES = ("memory_budget=1G", "datafile_size=64M", "log_disk_size=2G")

# it reports the machine that it runs on to its maker unless told not to
_SILENT = ("TELEMETRY_ENABLED", "false")


class OceanBase(Server):
    """An OceanBase server: a target that speaks MySQL's protocol. It has no log of rows."""

    name: ClassVar[str] = "OceanBase"
    flavour: ClassVar[str] = "oceanbase"
    image: ClassVar[str] = "oceanbase/seekdb:latest"

    @classmethod
    def program(cls, say: Say = say_stderr) -> Program:
        """`seekdb` out of its wheel, else out of an image."""
        key = f"oceanbase-{_RELEASE}"
        try:
            home = build_once(
                cache_dir() / "roots" / f"seekdb-{_RELEASE}",
                lambda folder: wheels.fetch(WHEEL, folder, what="OceanBase is not installed here", say=say),
            )
        except ServerUnavailable as e:
            if docker.engine_runs():
                words = ["=".join(_SILENT), "seekdb", "--nodaemon"]
                return Program(["env"], words, key=key, image=cls.image)
            hint = "let pip reach its index, or start Docker"
            raise ServerUnavailable(f"{cls.name} cannot be had here", [str(e), "Docker: no engine"], hint) from e
        return Program([str(home / "pylibseekdb" / "seekdb")], ["--nodaemon"], dict([_SILENT]), key)

    @classmethod
    def initialise(cls, program: Program, data: Path, log: Path) -> None:
        """Leave the folder empty: the server fills it in less time than a filled one takes to be recovered."""
        data.mkdir()

    @property
    def socket(self) -> Path:
        """Its Unix socket, whose place it chooses itself."""
        return self.data / "run" / "sql.sock"

    def server_options(self) -> list[str]:
        """As small as it gets; its own log holds errors alone."""
        return ["--log-level", "ERROR", *(word for size in _SIZES for word in ("--parameter", size))]

    def arguments(self, program: Program) -> list[str]:
        """Its options are its own, and none is the address to listen at."""
        own = ["--port", str(self.port), "--base-dir", str(self.data)]
        return [*program.options, *own, *self.server_options(), *self.options]

    def ready(self) -> str:
        """OceanBase's version, when a login works; by then it admits this machine alone."""
        try:
            place, told = ask(self.port, "SELECT @@socket, @@version_comment")
            if Path(place).resolve() != self.socket.resolve():
                return ""  # another server, which has taken the port
            ask(self.port, "SET GLOBAL ob_tcp_invited_nodes = '127.0.0.1'")
        except OSError:
            return ""
        found = re.search(r"\d[\d.]+\d", told)
        return found[0] if found else told

    def last_words(self) -> list[str]:
        """What it says on its way, and the errors in its own log."""
        own = self.data / "log" / "seekdb.log"
        lines = own.read_text(errors="replace").splitlines() if own.exists() else []
        errors = [line for line in lines if "errcode=" in line] or lines
        return [*super().last_words(), *(line[:300] for line in errors[-4:])]
