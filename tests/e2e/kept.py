"""Copies of a target and of a daemon's data, taken and put back while nobody writes."""

from __future__ import annotations

import shutil
from pathlib import Path

from tests.services.database import Database


class Folder:
    """Files, which may lie beside others of the same beginning (SQLite)."""

    def __init__(self, place: Path) -> None:
        self._place, self._copy = place, place.with_name(f"kept_{place.name}")

    def take(self) -> None:
        _clear(self._copy)
        _copy(self._place, self._copy)

    def put_back(self) -> None:
        _clear(self._place)
        _copy(self._copy, self._place)


def _beside(place: Path) -> list[Path]:
    return [*place.parent.glob(f"{place.name}*")]


def _clear(place: Path) -> None:
    for path in _beside(place):
        shutil.rmtree(path) if path.is_dir() else path.unlink()


def _copy(of: Path, to: Path) -> None:
    for path in _beside(of):
        there = to.with_name(path.name.replace(of.name, to.name, 1))
        shutil.copytree(path, there, symlinks=True, ignore=_no_files) if path.is_dir() else shutil.copy2(path, there)


def _no_files(folder: str, names: list[str]) -> list[str]:
    """Sockets and pipes, of whoever is dead by now."""
    return [name for name in names if not (Path(folder, name).is_file() or Path(folder, name).is_dir())]


class Tables:
    """A database at a server, with the sink's own marks in it."""

    def __init__(self, of: Database) -> None:
        self._of, self._copy = of, Database(of.server, f"{of.name}_kept")

    def take(self) -> None:
        self._server(f"DROP DATABASE IF EXISTS {self._copy.name}", f"CREATE DATABASE {self._copy.name}")
        self._move(self._of, self._copy)

    def put_back(self) -> None:
        self._of.execute(*(f"DROP TABLE `{table}`" for table in _names(self._of)))
        self._move(self._copy, self._of)

    def drop(self) -> None:
        self._server(f"DROP DATABASE IF EXISTS {self._copy.name}")

    def _server(self, *statements: str) -> None:
        Database(self._of.server, "mysql").execute(*statements)

    def _move(self, of: Database, to: Database) -> None:
        for table in _names(of):
            to.execute(
                f"CREATE TABLE `{table}` LIKE {of.name}.`{table}`",
                f"INSERT INTO `{table}` SELECT * FROM {of.name}.`{table}`",
            )


def _names(of: Database) -> list[str]:
    found = of.query(f"SELECT TABLE_NAME FROM information_schema.TABLES WHERE TABLE_SCHEMA = '{of.name}'")
    return [name for (name,) in found]


def indexes(of: Database, tables: list[str]) -> set[tuple[object, ...]]:
    """Of these tables, beside their keys: (table, index, columns in order, unique)."""
    rows = of.query(
        "SELECT TABLE_NAME, INDEX_NAME, GROUP_CONCAT(COLUMN_NAME ORDER BY SEQ_IN_INDEX), MAX(NON_UNIQUE) "
        f"FROM information_schema.STATISTICS WHERE TABLE_SCHEMA = '{of.name}' AND INDEX_NAME <> 'PRIMARY' "
        "GROUP BY TABLE_NAME, INDEX_NAME"
    )
    return {(table, name, columns, int(plain)) for table, name, columns, plain in rows if table in tables}
