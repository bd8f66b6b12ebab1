"""Names that look like markup, and long reasons, as the commands print them."""

from __future__ import annotations

import errno
import json
import os
import pty
import re
import subprocess
import sys
from datetime import date, timedelta
from decimal import Decimal
from io import BytesIO, StringIO, TextIOWrapper
from pathlib import Path

import pytest
from rich.console import Console

from syncd import cli, control, plugins, printing
from syncd.config import Service
from syncd.engine.build import clock
from syncd.engine.job import JobRunner
from syncd.engine.trace import Change
from syncd.errors import FatalError
from syncd.model import Finding, Head, Hop, Lane, Op, Position, TableId
from syncd.ops import repairer
from syncd.ops.reconcile import Different, Result
from syncd.ops.status import JobStatus, TableStatus
from syncd.progress import Progress, log_above
from syncd.state import Failure, Halt, Phase, TableRecord, Wait
from tests.unit.engine.world import engine_in

NAMES = ("a[/x]b", "log[old]", "c:key:d")
TABLES = [TableId("shop", name) for name in NAMES]
REASON = "the row [/q] at olap[1] is refused: " + "it is too long for its column; " * 20


def test_a_comparison(capsys: pytest.CaptureFixture[str]) -> None:
    sample = Different(("[/k]",), {"col[/y]": ("[red]", ":key:")})
    results = [Result(t, "olap[x]", 3, 1, 1, 1, 1, [("[/m]",)], [("[/e]",)], [sample], REASON) for t in TABLES]
    printing.print_results(results)
    said = capsys.readouterr().out
    for name in NAMES:
        assert f"  shop.{name} " in said.partition("was not compared")[0]
        for part in (
            '"[/m]" is missing at olap[x]',
            '"[/e]" is extra',
            '"[/k]" col[/y]: source "[red]", olap[x] ":key:"',
        ):
            assert f"shop.{name} {part}" in said


def test_rows_that_are_not_named_are_counted(capsys: pytest.CaptureFixture[str]) -> None:
    table = TableId("shop", "orders")
    whole = Result(table, "olap", 9, missing=1, extra=1, missing_keys=[(1,)], extra_keys=[(2,)])
    printing.print_results([whole])
    assert "more rows" not in capsys.readouterr().out
    printing.print_results([Result(table, "olap", 9, missing=1200, extra=1, missing_keys=[(1,)], extra_keys=[(2,)])])
    assert "shop.orders at olap: 1,199 more rows differ; --show N" in capsys.readouterr().out


def test_a_table_of_which_nothing_was_compared_has_no_numbers(capsys: pytest.CaptureFixture[str]) -> None:
    empty, begun, never = (TableId("shop", name) for name in ("empty", "begun", "never"))
    results = [Result(empty, "olap"), Result(begun, "olap", rows=7, unsettled="the server has gone")]
    printing.print_results([*results, Result(never, "olap", unsettled="the table is gone")])
    lines = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert lines[1:4] == [
        ["shop.empty", "olap", "0", "0", "0", "0"],
        ["shop.begun", "olap", "7", "0", "0", "0"],
        ["shop.never", "olap", "-", "-", "-", "-"],
    ]


def test_a_job_file_without_the_passwords_says_so(capsys: pytest.CaptureFixture[str]) -> None:
    cli.init("mysql://me:hush@db/shop", "http://ch:8123/shop")
    said = capsys.readouterr()
    assert "passwords are left out" in said.err
    assert "hush" not in said.out + said.err
    cli.init("mysql://me@db/shop", "http://ch:8123/shop")
    assert capsys.readouterr().err == ""


def test_the_numbers_of_a_trace_survive_readers_of_53_bits() -> None:
    hop = Hop(2**63 + 1, "deliver", Lane("shop", 0), 3, at=2, took=1, worker="deliver/olap")
    change = Change(2**62 + 1, Op.INSERT, Lane("shop", 0), 3, 2**64 - 1, 1, 2, {"id": 7}, (hop,))
    facts = json.loads(control.as_json(control.change_facts(change)))
    assert (facts["seq"], facts["trace"], facts["op"]) == (str(2**62 + 1), str(2**64 - 1), "INSERT")
    assert facts["hops"][0]["trace"] == str(2**63 + 1)


def test_a_status(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """On a terminal of 80 columns, too, a reason is one piece of text, and the grid is a line a table."""
    job = status()
    for terminal in (False, True):
        if terminal:
            monkeypatch.setenv("FORCE_COLOR", "1")
            monkeypatch.setenv("NO_COLOR", "1")
            monkeypatch.setenv("COLUMNS", "80")
        cli._print_status(job, Service())
        lines = re.sub(r"\x1b\[[\d;]*m", "", capsys.readouterr().out).splitlines()
        for name in NAMES:
            (line,) = [line for line in lines if line.startswith(f"  shop.{name} HALTED at olap")]
            assert line.endswith(REASON)
        assert any(line.startswith("  deliver/olap: shop.log[old] waits for") for line in lines)
        (header,) = [place for place, line in enumerate(lines) if "rows loaded" in line]
        assert [line.split()[0] for line in lines[header + 1 : header + 4]] == [f"shop.{name}" for name in NAMES]
        assert all(len(line) <= 80 for line in lines[header : header + 4])
        assert "HALTED, paused" in lines[header + 1]
        assert "  WARNING queue: it is full in 50 seconds at the present pace" in lines


def status() -> JobStatus:
    now = clock()
    records = [
        TableRecord(table, "olap", Phase.HALTED, Head(Position("log:1"), 1), 1, now, reason=REASON) for table in TABLES
    ]
    rows = tuple(TableStatus(record, 1, 1, 10, 0, paused=True, halt=None) for record in records)
    halts = {str(table): Halt(REASON, Position("log:1"), now) for table in TABLES}
    waits = {"deliver/olap: shop.log[old]": Wait("[/w]", now)}
    failed = Failure("no [/f]", now)
    return JobStatus("shop", "HALTED", "[/p]", 1.0, 1.0, (), rows, halts, failed, waits, 1, 2, queue_full_in=50.0)


def test_findings_and_plugins(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    cli._print_findings([Finding("warning", "shop.a[/x]b", "[/q]", "pip install '.[mysql]'")])
    assert capsys.readouterr().out == "warning shop.a[/x]b: [/q] -> pip install '.[mysql]'\n"
    absent = plugins.Plugin("source", "mysql", "0.1.0", "syncd", "driver missing", "pip install '.[mysql]'")
    monkeypatch.setattr(plugins, "available", lambda _: [absent])
    monkeypatch.chdir(tmp_path)
    cli.list_plugins()
    assert "pip install '.[mysql]'" in capsys.readouterr().out


def test_the_progress(tmp_path: Path) -> None:
    shown = StringIO()
    with engine_in(tmp_path / "world") as world:
        failed = JobRunner(world.parts, world.queue, repairer.work)
        failed.failed = FatalError("shop.a[/x]b and shop.log[old]")
        with Progress(Console(file=shown, force_terminal=True, width=200), on=True) as progress:
            progress.show([failed])
    assert "HALTED: shop.a[/x]b and shop.log[old] [E150]" in shown.getvalue()


def test_what_workers_log_is_printed_above_the_progress_and_keeps_its_colours() -> None:
    shown, code = (
        StringIO(),
        "import sys; sys.stderr.write(f'worker: {sys.stderr.isatty()} \\33[31mred\\33[0m\\n\\npart')",
    )
    before = os.fstat(2)
    console = Console(file=shown, force_terminal=True, width=200, color_system="standard", _environ={"TERM": "xterm"})
    with log_above(console):
        subprocess.run([sys.executable, "-c", code], check=True)
        left = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)  # it holds the stream
    left.communicate(b"\n", timeout=60)
    assert shown.getvalue() == "worker: True \x1b[31mred\x1b[0m\n\npart\n"
    assert os.path.samestat(os.fstat(2), before)


@pytest.mark.parametrize(
    ("encoding", "shown"), [("utf-8", "caf\\xe9 ü"), ("latin-1", "café Ã¼"), ("ascii", r"caf\xe9 \xc3\xbc")]
)
def test_what_a_terminal_cannot_show_is_written_out(encoding: str, shown: str) -> None:
    """It ends nothing: whoever writes later is still heard."""
    terminal = TextIOWrapper(BytesIO(), encoding=encoding)
    with log_above(Console(file=terminal, force_terminal=True, width=200)):
        os.write(2, b"caf\xe9 \xc3\xbc\nlater\n")
    terminal.seek(0)
    assert terminal.read() == f"{shown}\nlater\n"


def test_a_log_that_was_sent_to_another_terminal_stays_there() -> None:
    code = "import os; from rich.console import Console; from syncd.progress import Progress\n"
    code += "with Progress(Console(), on=True): os.write(2, b'a line')"
    (progress, out), (log, err) = pty.openpty(), pty.openpty()
    try:
        subprocess.run([sys.executable, "-c", code], stdout=out, stderr=err, check=True, timeout=60)
        os.set_blocking(log, False)
        assert os.read(log, 100) == b"a line"
    finally:
        for end in (progress, out, log, err):
            os.close(end)


@pytest.mark.parametrize(
    ("of", "said"),
    [
        (None, "NULL"),
        (b"\0\xff", "0x00ff"),
        ('a"ü', '"a\\"ü"'),
        (Decimal("2.50"), "2.50"),
        (date(2027, 1, 2), "2027-01-02"),
        (timedelta(hours=-1, seconds=1), "-0:59:59"),
        (-0.0, "-0.0"),
    ],
)
def test_values_for_people(of: object, said: str) -> None:
    assert printing.value(of) == said


class Gone(StringIO):
    def write(self, _: str) -> int:
        raise OSError(errno.EIO, "Input/output error")


def test_a_terminal_that_has_gone_holds_up_nobody_who_logs() -> None:
    def write_until_told() -> None:
        while True:
            os.write(2, b"another\n" * 100)

    with log_above(Console(file=Gone(), force_terminal=True)), pytest.raises(OSError, match="Input/output error"):
        write_until_told()


def test_the_word_at_a_signal_leaves_the_terminal_as_it_was() -> None:
    shown = StringIO()
    with Progress(Console(file=shown, force_terminal=True, width=200), on=True) as progress:
        progress.draining()
        hidden, seen = shown.getvalue().rfind("\x1b[?25l"), shown.getvalue().rfind("\x1b[?25h")
        assert seen > hidden >= 0
    assert "draining; the same signal once more ends it at once\n" in shown.getvalue()


def test_the_demo_names_the_drivers_that_it_lacks(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cli, "find_spec", lambda name: None if name == "chdb" else sys)
    monkeypatch.setattr(sys, "argv", ["syncd", "demo"])
    with pytest.raises(SystemExit) as end:
        cli.main()
    said = capsys.readouterr()
    assert (end.value.code, said.out) == (2, "")
    assert said.err == "the demo needs chdb; pip install '.[demo]' in the checkout of syncd [E110]\n"
