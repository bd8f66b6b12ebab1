"""The Parquet sink passes the suite; what is there for strangers, and at each line at which it dies."""

from __future__ import annotations

import itertools
import multiprocessing
import os
import random
import shutil
import signal
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from syncd.errors import FatalError, FencedError, TransientError
from syncd.model import ChangeBatch, Column, Ddl, Lane, Target
from syncd.sinks.parquet import ParquetSink
from syncd.sinks.parquet.table import Busy
from syncd.spi import Sink
from syncd.testing.contracts import sink_shards
from syncd.testing.contracts.sink import Factory, SinkContract, made
from syncd.testing.contracts.sink_kit import (
    ACT,
    DELETE,
    INSERT,
    ITEMS,
    KEYLESS,
    OWNER,
    READ,
    UPDATE,
    Change,
    Writer,
    batch,
    change,
    gone,
    live,
    rows,
    target,
    with_column,
)
from tests.e2e import values
from tests.services import fuzz
from tests.services.small_disk import small_disk

LOG = target(KEYLESS, append=True)


class TestParquetSink(SinkContract):
    @pytest.fixture
    def factory(self, tmp_path: Path) -> Factory:
        options = ParquetSink.Options(path=tmp_path / "copy", expire_rows=1, merge_files=4, page_rows=7_000)
        return partial(made, ParquetSink, options, tmp_path)

    def refused(self, sink: Sink) -> tuple[ChangeBatch, set[int]]:
        names = ["good", None, "good", None]
        return batch(ITEMS, [(INSERT, 10 + i, (i, name, 1)) for i, name in enumerate(names)]), {1, 3}

    def change_by_hand(self, sink: Sink, of: Target) -> None:
        """Somebody puts another `_schema` there."""
        assert isinstance(sink, ParquetSink)
        table = sink._table(of)
        state = table.known()
        columns = [c if c.name != "qty" else replace(c, type=pa.int8()) for c in state.schema.columns]
        table.save(replace(state, schema=replace(state.schema, columns=tuple(columns))))

    @pytest.mark.parametrize("left", ["_schema", "nothing", "one file"])
    def test_a_death_while_the_rows_that_were_loaded_anew_go(
        self, sink: Sink, left: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Who does it again must not take what is left for all of it."""
        of = sink_shards.shard("1")
        shadow = replace(of, name=f"orders_syncd_{of.part}_3")
        sink.prepare(of)
        sink_shards.writer(sink, of, 1).write((INSERT, 1, sink_shards.row(of, 1, "old", 1)))
        sink.prepare(shadow, 20)
        for number in (2, 3):
            Writer(sink, shadow, lane=None, number=number).write((READ, 20, sink_shards.row(of, number, "new", 2)))

        def dies(folder: Path, **_: Any) -> None:
            files = sorted(folder.iterdir(), key=lambda file: file.name != "_schema")
            for file in {"_schema": files[1:], "nothing": files, "one file": files[2:]}[left]:
                file.unlink()
            raise KeyboardInterrupt

        with monkeypatch.context() as patch:
            patch.setattr("syncd.sinks.parquet.shards.shutil.rmtree", dies)
            with pytest.raises(KeyboardInterrupt):
                sink.swap(shadow, of, 20, replace(ACT, number=90))
        sink.swap(shadow, of, 20, replace(ACT, number=91))
        assert sink_shards.there(sink, of) == [(2, "new", 2), (3, "new", 2)]
        assert not [file for file in (sink._options.path / "shop").iterdir() if "_syncd_" in file.name]  # type: ignore[attr-defined]


# -- what strangers see


def seen(folder: Path) -> dict[int, tuple[Any, ...]]:
    found = values.documented()(folder, "id").select(["id", "name", "qty"]).to_pylist()
    return {row["id"]: (row["name"], row["qty"]) for row in found}


@pytest.fixture
def place(tmp_path: Path) -> Path:
    return tmp_path / "copy" / "shop" / "items"


def sink_in(folder: Path, **options: Any) -> ParquetSink:
    sink = made(ParquetSink, ParquetSink.Options(path=folder / "copy", **options), folder)
    assert isinstance(sink, ParquetSink)
    sink.open()
    return sink


def test_strangers_read_the_current_rows_at_any_time(tmp_path: Path, place: Path) -> None:
    """Also while files are merged, and after tombstones have gone."""
    sink = sink_in(tmp_path, merge_files=3, expire_rows=1)
    sink.prepare(target())
    writer = Writer(sink, target())
    wanted: dict[int, tuple[Any, ...]] = {}
    for i in range(40):
        key = i % 7
        if i % 5:
            writer.write((UPDATE, 10 + i, (key, f"v{i}", i)))
            wanted[key] = (f"v{i}", i)
        else:
            writer.write((DELETE, 10 + i, gone(ITEMS, (key, "", 0))))
            wanted.pop(key, None)
        assert seen(place) == live(sink, target()) == wanted
    assert len([*place.glob("*.parquet")]) < 4
    sink.expire(target(), 100)
    (file,) = place.glob("*.parquet")
    rows = pq.read_table(file)
    assert not any(rows["_deleted"].to_pylist())
    assert seen(place) == live(sink, target()) == wanted


def test_a_merge_keeps_files_of_other_sizes(tmp_path: Path, place: Path) -> None:
    """A large file is not written again for each few small ones."""
    sink = sink_in(tmp_path, merge_files=3)
    sink.prepare(target())
    writer = Writer(sink, target())
    noise = random.Random(1)
    writer.write(*((INSERT, 10 + i, (i, noise.randbytes(1000).hex(), i)) for i in range(2_000)))
    (large,) = place.glob("*.parquet")
    for i in range(20):
        writer.write((UPDATE, 5_000 + i, (i, "small", i)))
    assert large.exists()
    assert len([*place.glob("*.parquet")]) < 5
    assert [v for k, v in live(sink, target()).items() if k < 20] == [("small", i) for i in range(20)]


@pytest.mark.parametrize("append", [False, True], ids=["keyed", "keyless"])
def test_what_was_written_is_seen_while_files_are_merged(tmp_path: Path, append: bool) -> None:
    """Four write, each merges, one reads: never less than was acknowledged before, no row twice."""
    of = LOG if append else target()
    sink_in(tmp_path).prepare(of)
    written: list[int] = []
    failures: list[BaseException] = []

    def write(number: int) -> None:
        try:
            writer = Writer(sink_in(tmp_path, merge_files=2), of, owner=f"{OWNER}/{number}", lane=Lane("t", number))
            for i in range(60):
                key = number * 100 + i
                ticket = writer.write((INSERT, 10 + key, (key, "a", i)))
                if i % 9 == 0:
                    writer.sink.write(of, batch(of.schema, [(INSERT, 10 + key, (key, "a", i))]), ticket)
                written.append(key)
        except BaseException as error:
            failures.append(error)
            raise

    threads = [threading.Thread(target=write, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    reader, scans = sink_in(tmp_path), 0
    while any(thread.is_alive() for thread in threads):
        before = {*written}
        keys = [row[0] for row in rows(reader, of)]
        assert len(keys) == len({*keys})
        assert before <= {*keys}
        scans += 1
    assert not failures
    assert sorted(row[0] for row in rows(reader, of)) == sorted(written) == sorted({*written})
    assert scans > 5


def test_strangers_see_the_default_of_a_new_column(tmp_path: Path, place: Path) -> None:
    """Also in the files of before, and in those of a writer that does not know of it yet."""
    sink = sink_in(tmp_path)
    sink.prepare(target())
    writer = Writer(sink, target())
    writer.write((INSERT, 10, (1, "a", 1)))
    after = target(with_column(ITEMS, Column("note", pa.string(), nullable=False, default="ü"), 1))
    altered = replace(change(Ddl.ALTER, after, 20), before=ITEMS)
    sink.apply(after, altered, ACT)
    writer.write((INSERT, 11, (2, "b", 2)))
    want = [{"id": 1, "note": "ü", "name": "a", "qty": 1}, {"id": 2, "note": "ü", "name": "b", "qty": 2}]
    for _ in range(2):
        found = values.documented()(place, "id").select(["id", "note", "name", "qty"]).sort_by("id")
        assert found.to_pylist() == want == [dict(zip(want[0], row, strict=True)) for row in rows(sink, after)]
        sink.apply(after, altered, ACT)


# -- deaths


def story(sink: Sink, epoch: int) -> Iterator[dict[int, tuple[Any, ...]]]:
    """What is there after each call."""
    of = target()
    yield {}
    sink.prepare(of)
    sink.fence(OWNER, epoch)
    writer = Writer(sink, of, epoch=epoch)
    for i in range(3):
        writer.write((INSERT, 10 + i, (i, "a", i)), (INSERT, 10 + i, (i + 10, "b", i)))
        yield {k: v for j in range(i + 1) for k, v in ((j, ("a", j)), (j + 10, ("b", j)))}
    five = {1: ("a", 1), 2: ("a", 2), 10: ("b", 0), 11: ("b", 1), 12: ("b", 2)}
    writer.write((DELETE, 20, gone(ITEMS, (0, "", 0))))
    yield five
    sink.expire(of, 30)
    yield five
    sink.fence(OWNER, epoch + 1)
    yield five
    writer.epoch = epoch + 1
    writer.write((UPDATE, 40, (12, "new", 1)))
    yield five | {12: ("new", 1)}
    sink.apply(of, change(Ddl.TRUNCATE, of, 40), ACT)
    yield {12: ("new", 1)}


def die(factory: Factory, folder: Path, calls: int) -> None:
    """In a process of its own: the story, to its `calls`-th call that changes the disk. Its steps go to a file."""
    left = calls

    def hook(event: str, args: tuple[Any, ...]) -> None:
        nonlocal left
        changes = event in {"os.rename", "os.link", "os.remove", "os.mkdir"}
        if changes or (event == "open" and str(folder / "copy") in str(args[0]) and args[2] & os.O_CREAT):
            left -= 1
            if not left:
                os.kill(os.getpid(), signal.SIGKILL)

    sink = factory()
    sys.addaudithook(hook)
    for number, _ in enumerate(story(sink, 1)):
        (folder / "step").write_text(str(number))


STRIDE = 6 if fuzz.TIMES == 1 else 2
"""Of the steps at which a process dies or freezes, CI takes some; more when examples are multiplied."""


@pytest.mark.parametrize("part", range(2))
def test_a_death_at_any_step_loses_nothing_and_brings_nothing_back(tmp_path: Path, part: int) -> None:
    """Guarantees 1 and 2: after each death both sinks and strangers see what was before or after the call in hand."""
    context = multiprocessing.get_context("spawn")
    deaths = 0
    for calls in itertools.count(1 + part * STRIDE // 2, STRIDE):
        folder = tmp_path / str(calls)
        folder.mkdir()
        options = ParquetSink.Options(path=folder / "copy", merge_files=3, expire_rows=1)
        factory = partial(made, ParquetSink, options, folder)
        child = context.Process(target=die, args=(factory, folder, calls))
        child.start()
        child.join(60)
        if child.exitcode == 0:
            break
        assert child.exitcode == -signal.SIGKILL
        deaths += 1
        states = [*_states()]
        step = int((folder / "step").read_text()) if (folder / "step").exists() else 0
        place = folder / "copy" / "shop" / "items"
        allowed = states[step : step + 2]
        if any(place.glob("*.parquet")):
            assert _partly(seen(place), allowed), (calls, step)
        sink = factory()
        for state in [*story(sink, 3)][-1:]:
            assert live(sink, target()) == seen(place) == state
        sink.expire(target(), 30)
        left = {p.name[:2] for p in place.iterdir() if p.suffix != ".parquet"} - {"_s", "_l"}
        assert (left, [*(folder / "copy" / "_syncd" / "waiting").iterdir()]) == (set(), [])
    assert deaths > 30 // STRIDE


def _states() -> Iterator[dict[int, tuple[Any, ...]]]:
    class Nothing:
        def __getattr__(self, name: str) -> Any:
            return lambda *args: None

    return story(Nothing(), 1)  # type: ignore[arg-type]


def _partly(found: dict[int, tuple[Any, ...]], allowed: list[dict[int, tuple[Any, ...]]]) -> bool:
    """One of these; or, in the middle of a TRUNCATE, something between them."""
    between = {key for state in allowed for key in state.items()}
    certain = set.intersection(*({*state.items()} for state in allowed))
    return certain <= {*found.items()} <= between


# -- frozen processes


def freeze(factory: Factory, folder: Path, calls: int) -> None:
    """In a process of its own: one write of a table without a key, frozen at its `calls`-th step on the disk."""
    sink = factory()
    left = calls

    def hook(event: str, args: tuple[Any, ...]) -> None:
        nonlocal left
        steps = event in {"os.rename", "os.link", "os.remove", "os.listdir", "os.scandir"}
        if steps or (event == "open" and str(folder / "copy") in str(args[0])):
            left -= 1
            if not left:
                os.kill(os.getpid(), signal.SIGSTOP)

    sys.addaudithook(hook)
    try:
        Writer(sink, LOG, number=1, lane=Lane("t", 1)).write((INSERT, 20, (7, "late", 1)))
    except (FencedError, TransientError, FatalError) as error:
        (folder / "told").write_text(type(error).__name__)


def stopped(child: BaseProcess) -> bool:
    """Frozen now; False: it has ended."""
    while child.is_alive():
        if Path(f"/proc/{child.pid}/stat").read_text().rpartition(")")[2].split()[0] == "T":
            return True
        time.sleep(0.01)
    return False


@pytest.mark.parametrize("door", ["fence", "truncate"])
def test_a_process_that_was_frozen_anywhere_adds_nothing_when_it_wakes_up(
    tmp_path: Path, door: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Guarantee 7: what is there when the door is shut stays as it is. Merges it may bring to their end."""
    monkeypatch.setattr("syncd.sinks.parquet.table.LOCK_SECONDS", 0.2)
    context = multiprocessing.get_context("spawn")
    told: Counter[str] = Counter()
    for calls in itertools.count(1, STRIDE // 2):
        folder = tmp_path / str(calls)
        folder.mkdir()
        options = ParquetSink.Options(path=folder / "copy", merge_files=2)
        factory = partial(made, ParquetSink, options, folder)
        sink = factory()
        sink.prepare(LOG)
        Writer(sink, LOG).write((INSERT, 10, (1, "a", 1)))
        child = context.Process(target=freeze, args=(factory, folder, calls))
        child.start()
        if not stopped(child):
            assert child.exitcode == 0
            break
        assert child.pid is not None
        shut = True
        try:
            if door == "fence":
                sink.fence(OWNER, 2)
            else:
                shut = truncated(sink)
            before = sorted(rows(sink, LOG))
            Writer(sink, LOG, epoch=2, number=5).write((INSERT, 60, (9, "heir", 1)))
        finally:
            os.kill(child.pid, signal.SIGCONT)
        child.join(60)
        assert child.exitcode == 0
        if not shut:
            assert truncated(sink)
            before = []
        assert sorted(rows(sink, LOG)) == [*before, (9, "heir", 1)]
        told[(folder / "told").read_text() if (folder / "told").exists() else "written"] += 1
    assert told["FencedError" if door == "fence" else "TransientError"] > 0, told
    assert told["written"] > 1


def truncated(sink: Sink) -> bool:
    """False: a process that is frozen keeps the table's files; nothing was done."""
    try:
        sink.apply(LOG, change(Ddl.TRUNCATE, LOG, 50), ACT)
    except Busy:
        return False
    return True


# -- bad days of a disk


def test_a_full_disk_is_waited_for(tmp_path: Path) -> None:
    with small_disk(tmp_path / "disk", 2) as disk:
        sink = made(ParquetSink, ParquetSink.Options(path=disk / "copy"), tmp_path)
        sink.prepare(target())
        (disk / "other").write_bytes(bytes(1_600_000))
        noise = random.Random(1)
        many: list[Change] = [(INSERT, 10 + i, (i, noise.randbytes(1000).hex(), i)) for i in range(500)]
        writer = Writer(sink, target())
        ticket = writer.ticket(many)
        with pytest.raises(TransientError, match="No space left"):
            sink.write(target(), batch(ITEMS, many), ticket)
        assert live(sink, target()) == {}
        (disk / "other").unlink()
        sink.write(target(), batch(ITEMS, many), ticket)
        assert live(sink, target()) == {row[0]: row[1:] for _, _, row in many}


def test_a_damaged_file_is_named(tmp_path: Path, place: Path) -> None:
    """One byte of a value, one of the end, and a file of somebody else."""
    sink = sink_in(tmp_path)
    sink.prepare(target())
    Writer(sink, target()).write((INSERT, 10, (1, "a" * 100, 1)))
    (file,) = place.glob("*.parquet")
    whole = file.read_bytes()
    for at in (40, len(whole) - 2):
        file.write_bytes(whole[:at] + bytes([whole[at] ^ 1]) + whole[at + 1 :])
        with pytest.raises(FatalError, match=file.name) as caught:
            live(sink, target())
        assert caught.value.table == "shop.items"
    file.write_bytes(whole)
    pq.write_table(pa.table({"id": [1], "qty": ["x"]}), place / "mine.parquet")
    with pytest.raises(FatalError, match=r"mine\.parquet does not fit: column qty is string, int64 is wanted"):
        live(sink, target())
    (place / "mine.parquet").unlink()
    (place / "_schema").write_bytes(b"")
    with pytest.raises(FatalError, match="_schema is damaged"):
        live(sink, target())


def test_a_folder_that_is_gone_or_no_folder(tmp_path: Path) -> None:
    sink = sink_in(tmp_path)
    sink.prepare(target())
    shutil.rmtree(tmp_path / "copy")
    with pytest.raises(FatalError, match="No such file") as caught:
        Writer(sink, target()).write((INSERT, 10, (1, "a", 1)))
    assert caught.value.table == "shop.items"
    with pytest.raises(FatalError, match="is gone"):
        live(sink, target())
    (tmp_path / "copy").write_text("")
    with pytest.raises(FatalError, match="is a file"):
        sink_in(tmp_path)


def test_files_of_others_are_no_table(tmp_path: Path, place: Path) -> None:
    place.mkdir(parents=True)
    pq.write_table(pa.table({"id": [1]}), place / "mine.parquet")
    with pytest.raises(FatalError, match="holds files and no _schema"):
        sink_in(tmp_path).prepare(target())
