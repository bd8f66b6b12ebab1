"""The whole suite: server fixtures, and the check that a run leaves no process, port or file behind."""

from __future__ import annotations

import os
import shutil
import tempfile
import uuid
from pathlib import Path
from typing import Any

import pytest

from tests.services import fuzz, leaks, rotation
from tests.services.fixtures import (
    _oceanbase,
    database,
    mariadb,
    mariadb_database,
    mysql9,
    mysql9_database,
    mysql80,
    mysql80_database,
    mysql_server,
    oceanbase,
    oceanbase_database,
    private_mariadb,
    private_mysql9,
    private_mysql80,
    private_oceanbase,
)

__all__ = [
    "_oceanbase",
    "database",
    "mariadb",
    "mariadb_database",
    "mysql9",
    "mysql9_database",
    "mysql80",
    "mysql80_database",
    "mysql_server",
    "oceanbase",
    "oceanbase_database",
    "private_mariadb",
    "private_mysql9",
    "private_mysql80",
    "private_oceanbase",
]

_LEFT = pytest.StashKey[list[str]]()
_TEMP = pytest.StashKey[Path]()
_PYTEST_OWN = "pytest"


def pytest_addoption(parser: pytest.Parser) -> None:
    rotation.add_option(parser)


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    left = {*rotation.left_out(config, items)}
    if left:
        config.hook.pytest_deselected(items=[*left])
        items[:] = [item for item in items if item not in left]


def _is_worker(config: pytest.Config) -> bool:
    return hasattr(config, "workerinput")


@pytest.hookimpl(tryfirst=True)
def pytest_configure(config: pytest.Config) -> None:
    """Mark this run's processes, and give them a temporary folder of their own."""
    config.stash[_LEFT] = []
    fuzz.load_profile()
    if _is_worker(config):
        return
    os.environ[leaks.MARK] = uuid.uuid4().hex
    temp = Path(tempfile.mkdtemp(prefix="syncd-t-"))
    config.stash[_TEMP] = temp
    os.environ["TMPDIR"] = tempfile.tempdir = str(temp)
    if config.option.basetemp is None:
        config.option.basetemp = temp / _PYTEST_OWN


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node: Any, error: object | None) -> None:
    """Take over what a worker has found left in itself."""
    node.config.stash[_LEFT] += getattr(node, "workeroutput", {}).get("syncd_left", [])


@pytest.hookimpl(trylast=True)
def pytest_sessionfinish(session: pytest.Session, exitstatus: int) -> None:
    """Fail the run if something of it is left; trylast, so that workers and session fixtures have ended."""
    config = session.config
    leaks.end_fork_server()
    left = leaks.settle(leaks.own_listeners)
    if _is_worker(config):
        config.workeroutput["syncd_left"] = left  # type: ignore[attr-defined]  # set by xdist
        return
    left += leaks.settle(lambda: leaks.marked_processes(os.environ[leaks.MARK]))
    temp = config.stash[_TEMP]
    left += [f"file {p}" for p in sorted(temp.iterdir()) if p.name != _PYTEST_OWN]
    config.stash[_LEFT] += left
    if config.stash[_LEFT] and session.exitstatus == pytest.ExitCode.OK:
        session.exitstatus = pytest.ExitCode.TESTS_FAILED
    if session.exitstatus in (pytest.ExitCode.OK, pytest.ExitCode.NO_TESTS_COLLECTED):
        shutil.rmtree(temp)


@pytest.hookimpl(trylast=True)
def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    """In CI a failure is named when it is seen: the run may be ended before its summary."""
    if report.failed and "CI" in os.environ and "PYTEST_XDIST_WORKER" not in os.environ:
        print(f"\nFAILED {report.nodeid} ({report.when}, {report.duration:.0f} s): {_last_line(report)}")


def _last_line(report: pytest.TestReport) -> str:
    crash = getattr(report.longrepr, "reprcrash", None)
    return str(crash.message if crash else report.longrepr).partition("\n")[0][:300]


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    """Say what was left behind, and where the files of a failed run are."""
    for line in config.stash[_LEFT]:
        terminalreporter.write_line(f"LEFT BEHIND by the tests: {line}", red=True)
    if (temp := config.stash[_TEMP]).exists():
        terminalreporter.write_line(f"files of this run are kept in {temp}")
