"""Other people's programs, each in a virtual environment of its own, run for real.

`mysql-ch-replicator` (PyPI) copies MySQL and MariaDB to ClickHouse: `Replicator` runs it against a front of the real
engine over HTTP (`syncd.testing.clickhouse_http`). mysql-replication is a parser that `decode` uses (`peer_parser.py`).
"""

from __future__ import annotations

import hashlib
import importlib.util
import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from urllib.request import Request, urlopen

from bench.measure import reap
from bench.source import DATABASE
from syncd.testing.clickhouse_http import PASSWORD, USER, Front
from syncd.testing.servers.cache import build_once, cache_dir
from syncd.testing.servers.debroot import unpack

REPLICATOR = "mysql-ch-replicator==0.1.16"
# What pip found for it on the day of the committed results.
PINS = ("clickhouse-connect==1.12.0", "mysql-connector-python==26.10.0", "PyMySQL==1.2.4", "lz4==4.4.5")
LOCK = Path(__file__).parents[1] / "requirements.lock"


def pinned(*names: str) -> list[str]:
    """`name==version` of each, as the project's own lock file has it."""
    found = dict(re.findall(r"^([\w.-]+)==(\S+)", LOCK.read_text(), re.MULTILINE))
    return [f"{name}=={found[name.lower()]}" for name in names]


def environment(*requirements: str) -> Path:
    """The Python of a virtual environment that holds these packages; made when first asked for."""
    words = sys.version + sys.executable + " ".join(requirements)
    folder = cache_dir() / "peers" / hashlib.sha256(words.encode()).hexdigest()[:12]
    return build_once(folder, lambda partial: _install(partial, requirements)) / "bin" / "python"


def _install(folder: Path, requirements: tuple[str, ...]) -> None:
    """All that a virtual environment is, without the venv module, which is not everywhere."""
    print(f"syncd: installing {' '.join(requirements)} for comparison", file=sys.stderr, flush=True)
    base = Path(os.path.realpath(sys.executable))
    (folder / "bin").mkdir()
    (folder / "lib" / f"python{sys.version_info.major}.{sys.version_info.minor}" / "site-packages").mkdir(parents=True)
    (folder / "bin" / "python").symlink_to(base)
    (folder / "pyvenv.cfg").write_text(f"home = {base.parent}\ninclude-system-site-packages = false\n")
    pip = [str(base), "-I", "-m", "pip"]
    env = bare()
    if subprocess.run([*pip, "--version"], capture_output=True, env=env).returncode:
        pip, env = [str(base), "-m", "pip"], {**env, "PYTHONPATH": str(_pip_wheel())}
    words = ["--python", str(folder / "bin" / "python"), "install", "--quiet", "--no-input", *requirements]
    subprocess.run([*pip, *words], check=True, env=env)


def _pip_wheel() -> Path:
    """The pip inside Python, else the distribution's package, unpacked."""
    module = importlib.util.find_spec("ensurepip")  # Debian has it in a package of its own
    inside = sorted(Path(module.origin).parent.glob("_bundled/pip-*.whl")) if module and module.origin else []
    if inside:
        return inside[-1]
    root = unpack(["python3-pip-whl"], what="this Python has no pip", say=lambda line: print(line, file=sys.stderr))
    return next((root.path / "usr/share/python-wheels").glob("pip-*.whl"))


def bare() -> dict[str, str]:
    """The environment without what leads into ours."""
    return {name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "VIRTUAL_ENV"))}


class Replicator:
    """mysql-ch-replicator from the source on `port` to ClickHouse behind `front`; its files in `folder`.

    `workers` is its own setting for parallel loading.
    """

    def __init__(self, folder: Path, port: int, front: Front, workers: int = 0) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._folder = folder
        self._front = front
        self._python = environment(REPLICATOR, *PINS)
        self._config = folder / "config.yaml"
        data = folder / "binlog"
        data.mkdir(exist_ok=True)
        self._state = data / "state.json"
        self.cpu = 0.0
        server = {"host": "127.0.0.1", "port": port, "user": "root", "password": ""}
        house = {"host": "127.0.0.1", "port": front_port(front), "user": USER, "password": PASSWORD}
        # JSON is YAML
        config = {
            "mysql": server,
            "clickhouse": house,
            "databases": DATABASE,
            "tables": "orders",
            "binlog_replicator": {"data_dir": str(data)},
            "initial_replication_threads": workers,
            "version_initial_value": 10**12,  # changes that start without its own load must beat the loaded rows
            "log_level": "info",
        }
        self._config.write_text(json.dumps(config))

    def load(self) -> tuple[float, float]:
        """Its whole snapshot: when it ended (seconds since 1970), and its processor seconds."""
        process = self._start("load", "db_replicator", "--db", DATABASE, "--initial_only=True")
        cpu = reap(process, 3600)
        if process.returncode:
            raise RuntimeError((self._folder / "load.log").read_text()[-2000:])
        return time.time(), cpu

    @contextmanager
    def following(self, position: tuple[str, int]) -> Iterator[None]:
        """Its change capture from a place in the log on, into the table that `load` has made."""
        place = {"last_seen_transaction": position, "prev_last_seen_transaction": position}
        self._state.write_text(json.dumps(place))
        words = ("db_replicator", "--db", DATABASE, "--skip_initial_replication")
        processes = [self._start("log", "binlog_replicator"), self._start("changes", *words)]
        try:
            yield
        finally:
            for process in processes:
                process.send_signal(signal.SIGTERM)
            self.cpu = sum(reap(process, 60) for process in processes)

    def _start(self, log: str, *words: str) -> subprocess.Popen[bytes]:
        command = [str(self._python), "-m", "mysql_ch_replicator.main", *words, "--config", str(self._config)]
        with (self._folder / f"{log}.log").open("wb") as out:
            return subprocess.Popen(command, stdout=out, stderr=out, stdin=subprocess.DEVNULL, env=bare())

    def tail(self) -> str:
        """The last words of its logs."""
        logs = sorted(self._folder.glob("*.log"))
        return "\n".join(f"{log.name}: {log.read_text()[-1500:]}" for log in logs)


def front_port(front: Front) -> int:
    return int(front.url.rpartition(":")[2].partition("/")[0])


def ask(front: Front, sql: str) -> str:
    """One statement to the front, its answer as text."""
    headers: Mapping[str, str] = {"X-ClickHouse-User": USER, "X-ClickHouse-Key": PASSWORD}
    request = Request(front.url.rpartition("/")[0] + "/", data=sql.encode(), method="POST", headers=dict(headers))
    with urlopen(request, timeout=120) as answer:
        text: str = answer.read().decode()
    return text.strip()
