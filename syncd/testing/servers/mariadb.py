"""MariaDB: the machine's own, else its distribution's packages unpacked."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import ClassVar

from syncd.testing.servers import docker
from syncd.testing.servers.base import Program, Server, run_to_end, server_user
from syncd.testing.servers.cache import Say, say_stderr
from syncd.testing.servers.debroot import unpack
from syncd.testing.servers.errors import ServerUnavailable

_TABLES = (
    "mysql_system_tables.sql",
    "mariadb_system_tables.sql",
    "mysql_performance_tables.sql",
    "mariadb_performance_tables.sql",
    "mysql_system_tables_data.sql",
    "mariadb_system_tables_data.sql",
    "maria_add_gis_sp_bootstrap.sql",
    "mysql_sys_schema.sql",
    "mariadb_sys_schema.sql",
)
ROW_LOG = (
    "--binlog-format=ROW",
    "--binlog-row-image=FULL",
    "--binlog-row-metadata=FULL",
    "--gtid-strict-mode=ON",
)
"""How a MariaDB source has to write its log."""

_REDO = "--innodb-log-file-size=64M"


def _share(usr: Path) -> Path:
    """The folder of messages, character sets and system tables below `usr`."""
    for name in ("mariadb", "mysql"):
        if any((usr / "share" / name / t).exists() for t in _TABLES):
            return usr / "share" / name
    raise ServerUnavailable(f"no system tables of MariaDB below {usr / 'share'}")


def _options(usr: Path) -> list[str]:
    share = _share(usr)
    found = [f"--basedir={usr}", f"--lc-messages-dir={share}", f"--character-sets-dir={share / 'charsets'}"]
    plugins = next((p for p in (usr / "lib/mysql/plugin", usr / "lib/mariadb/plugin") if p.is_dir()), None)
    return [*found, f"--plugin-dir={plugins}"] if plugins else found


def _program(command: Sequence[str], usr: Path) -> Program:
    """The program with its folders, named after the release that it tells."""
    told = subprocess.run([*command, "--no-defaults", "--version"], check=True, capture_output=True, text=True).stdout
    key = hashlib.sha256(f"{told}{command}{os.geteuid()}".encode()).hexdigest()[:12]
    return Program(command, _options(usr), key=f"mariadb-{key}")


class MariaDB(Server):
    """A MariaDB server that writes a full row log with GTIDs."""

    name: ClassVar[str] = "MariaDB"
    flavour: ClassVar[str] = "mariadb"
    image: ClassVar[str] = "mariadb:11.8"

    @classmethod
    def program(cls, say: Say = say_stderr) -> Program:
        """`mariadbd` of this machine, else out of `mariadb-server-core` unpacked, else out of an image."""
        installed = shutil.which("mariadbd") or shutil.which("mariadbd", path="/usr/sbin:/usr/local/sbin")
        if installed:
            return _program([installed], Path(installed).resolve().parent.parent)
        try:
            root = unpack(["mariadb-server-core"], what="MariaDB is not installed here", say=say)
        except ServerUnavailable as e:
            if docker.engine_runs():
                return Program(["mariadbd"], key="mariadb-" + cls.image.replace(":", "-"), image=cls.image)
            hint = "install mariadb-server-core, or let apt-get reach this machine's mirror, or start Docker"
            raise ServerUnavailable(
                "MariaDB cannot be had here", ["mariadbd on PATH: absent", str(e), "Docker: no engine"], hint
            ) from e
        return _program(root.command("usr/sbin/mariadbd"), root.path / "usr")

    @classmethod
    def initialise(cls, program: Program, data: Path, log: Path) -> None:
        """Do what mariadb-install-db does: feed the system tables to the server's bootstrap mode."""
        data.mkdir()
        if program.image:
            install = Program(["mariadb-install-db"], image=program.image)
            words = [*install.words(data.parent), "--no-defaults", f"--datadir={data}", *server_user()]
            words += ["--auth-root-authentication-method=normal", "--skip-test-db"]
            run_to_end("setting up MariaDB's data directory", words, log=log)
            return
        share = Path(next(o for o in program.options if o.startswith("--lc-messages-dir=")).partition("=")[2])
        files = [share / t for t in _TABLES if (share / t).exists()]
        # bootstrap reads one statement from each line of this head
        head = "create database mysql;\nuse mysql;\nset @auth_root_socket=NULL, @skip_auth_anonymous=1;\n"
        words = [
            *program.words(data.parent),
            "--no-defaults",
            *program.options,
            *server_user(),
            f"--datadir={data}",
            "--bootstrap",
            "--skip-log-bin",
            "--innodb-flush-log-at-trx-commit=0",
            "--innodb-doublewrite=OFF",
            _REDO,
        ]
        sql = head + "".join(f.read_text() for f in files)
        run_to_end("setting up MariaDB's data directory", words, log=log, stdin=sql, env=program.env)

    def server_options(self) -> list[str]:
        """Row log as sources need it; a commit reaches the kernel, so it outlives kill -9, but waits for no disk."""
        return [
            f"--log-bin={self.data / 'binlog'}",
            *ROW_LOG,
            "--character-set-server=utf8mb4",
            "--local-infile=ON",
            "--skip-name-resolve",
            "--performance-schema=OFF",
            "--innodb-flush-log-at-trx-commit=2",
            "--sync-binlog=0",
            "--innodb-doublewrite=OFF",
            "--innodb-buffer-pool-size=128M",
            _REDO,
        ]
