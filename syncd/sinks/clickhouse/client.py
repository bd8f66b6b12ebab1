"""One connection: to a server over HTTP, or to the embedded engine of this process."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pyarrow as pa

from syncd.errors import FatalError, PluginError, TransientError
from syncd.sinks.clickhouse.errors import mapping
from syncd.sinks.clickhouse.options import SCHEMES, ClickHouseOptions
from syncd.sinks.clickhouse.syntax import quoted

# async_insert: an insert is answered when it is stored, not when it is noted. null_as_default: a NULL that a column
# does not take is an error, never a zero.
ALWAYS = {"async_insert": 0, "input_format_null_as_default": 0, "insert_deduplicate": 1}
_BINARY = "output_format_arrow_string_as_string = 0, output_format_arrow_low_cardinality_as_dictionary = 0"
_INSTALL = "pip install '.[{}]' in the checkout of syncd"


_PASSING = {errno.ENOSPC, errno.EDQUOT, errno.EIO}


class Client:
    """Statements, inserts and results as Arrow, with errors of syncd. One instance, one thread."""

    def __init__(self, options: ClickHouseOptions) -> None:
        self._options = options
        self._driver: Any = None

    def open(self) -> None:
        """TransientError: unreachable, or the engine's folder is held by another process. FatalError: refused."""
        try:
            import clickhouse_connect
        except ImportError as error:
            extra = "chdb" if self._options.embedded else "clickhouse"
            raise PluginError("the ClickHouse driver is not installed", hint=_INSTALL.format(extra)) from error
        settings = {**ALWAYS, **self._options.settings}
        with mapping(f"connecting to {self._options.url}"):
            if self._options.embedded:
                self._driver = self._engine(clickhouse_connect, settings)
            else:
                self._driver = clickhouse_connect.get_client(**self._http(), settings=settings)

    def _engine(self, clickhouse_connect: Any, settings: dict[str, Any]) -> Any:
        try:
            return clickhouse_connect.get_client(interface="chdb", path=self._options.path, settings=settings)
        except ImportError as error:
            raise PluginError("the embedded engine is not installed", hint=_INSTALL.format("chdb")) from error
        except Exception as error:
            if "already initialized with path" in str(error):
                raise FatalError(str(error), hint="one process has one engine folder: run the jobs apart") from error
            if "Error initializing EmbeddedServer" in str(error):
                _check_folder(Path(self._options.path))
                raise TransientError(
                    f"{self._options.path}: the engine does not start",
                    hint="another process holds the folder, or it is damaged: the lines before this say which",
                ) from error
            raise

    def _http(self) -> dict[str, Any]:
        url = urlsplit(self._options.url)
        secure = self._options.tls or url.scheme == "https"
        return {
            "host": url.hostname,
            "port": url.port or SCHEMES["https" if secure else "http"],
            "secure": secure,
            "verify": self._options.verify,
            "username": self._options.username,
            "password": self._options.password.get_secret_value(),
            "connect_timeout": self._options.connect_timeout,
            "send_receive_timeout": self._options.write_timeout,
            # Repeating is the engine's, and a session would forbid two statements at a time.
            "query_retries": 0,
            "autogenerate_session_id": False,
        }

    def close(self) -> None:
        if self._driver is not None:
            driver, self._driver = self._driver, None
            driver.close()

    def command(self, sql: str, *, doing: str, table: str | None = None, query_id: str = "") -> None:
        """A statement without a result. No settings here: they would be set and set back one by one.

        `query_id`: under which a server, not the embedded engine, knows it while it runs.
        """
        settings = {"query_id": query_id} if query_id and not self._options.embedded else None
        with mapping(doing, table):
            self._driver.raw_query(sql, settings=settings)

    def text(self, sql: str, *, doing: str, table: str | None = None) -> str:
        """The result as TabSeparatedRaw."""
        with mapping(doing, table):
            return bytes(self._driver.raw_query(sql, fmt="TabSeparatedRaw")).decode()

    def select(self, sql: str, *, doing: str, table: str | None = None) -> pa.Table:
        """The result as Arrow, strings as binary."""
        with mapping(doing, table):
            body = self._driver.raw_query(f"{sql}\nSETTINGS {_BINARY}", fmt="ArrowStream")
            return pa.ipc.open_stream(body).read_all() if body else pa.table({})

    def stream(self, sql: str, *, doing: str, table: str | None = None) -> Iterator[pa.RecordBatch]:
        """Like `select`, batch by batch; over HTTP without holding more than one."""
        with mapping(doing, table):
            source = self._driver.raw_stream(f"{sql}\nSETTINGS {_BINARY}", fmt="ArrowStream")
        with source, mapping(doing, table):
            yield from pa.ipc.open_stream(source)

    def insert(self, database: str, name: str, rows: pa.Table, settings: dict[str, str]) -> None:
        """All rows in one insert. Raises what the driver raises: the caller looks closer before it maps.

        The statement's names are ours: the driver's `insert_arrow` takes a dot in a table's name for the end of a
        database's, and leaves alone what looks quoted.
        """
        compression = self._driver.write_compression
        options = pa.ipc.IpcWriteOptions(compression=compression if compression in {"zstd", "lz4"} else None)
        file = pa.BufferOutputStream()
        with pa.ipc.new_file(file, rows.schema, options=options) as out:
            out.write(rows)
        into = f"{quoted(database)}.{quoted(name)} ({', '.join(map(quoted, rows.column_names))})"
        self._driver.raw_insert(into, None, file.getvalue(), settings, "Arrow")


def _check_folder(folder: Path) -> None:
    """FatalError: no engine can have its files there."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        why = "" if os.access(folder, os.R_OK | os.W_OK | os.X_OK) else os.strerror(errno.EACCES)
    except OSError as error:
        why = "" if error.errno in _PASSING else str(error.strerror)
    if why:
        hint = "name a folder that this user can write to in the sink's `url`"
        raise FatalError(f"{folder} cannot be the engine's folder: {why}", hint=hint)
