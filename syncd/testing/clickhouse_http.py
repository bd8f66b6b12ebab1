"""ClickHouse over HTTP for tests: a front of the real engine (chDB), not a server.

It speaks as much of the protocol as clickhouse-connect and a test need: POST of statements and data, settings and
parameters in the address, compressed bodies, FORMAT names, `query_id`, KILL QUERY (a statement of that id is waited
for, since the engine cannot be stopped from here), user and password, faults to order. No sessions, no replicas.

    with Front(folder) as front:
        ClickHouseSink.Options(url=front.url, password="secret")

or by hand: python -m syncd.testing.clickhouse_http FOLDER --port 8123
"""

from __future__ import annotations

import argparse
import json
import os
import re
import subprocess
import sys
import tempfile
import threading
import time
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, Literal
from urllib.parse import parse_qsl, urlsplit
from urllib.request import Request, urlopen

import pyarrow as pa

USER, PASSWORD = "default", "secret"
# Parameters of the address that are no settings.
_TRANSPORT = {"query", "database", "query_id", "user", "password", "default_format", "session_id", "session_timeout"}
_TRANSPORT |= {"session_check", "client_protocol_version", "compress", "decompress", "wait_end_of_query", "buffer_size"}
_TRANSPORT |= {"enable_http_compression", "send_progress_in_http_headers", "http_headers_progress_interval_ms", "role"}
_FORMAT = re.compile(rb"\bFORMAT\s+(\w+)\s*;?\s*\Z", re.IGNORECASE)
_INSERT = re.compile(rb"\A\s*(INSERT\s+INTO\s[^\n]*?)\s+FORMAT\s+(\w+)[ \t]*(?:\n|\Z)", re.IGNORECASE)
_KILL = re.compile(r"\A\s*KILL\s+QUERY\s+WHERE\s+(.*?)\s*(?:SYNC|ASYNC)?\s*;?\s*\Z", re.IGNORECASE | re.DOTALL)
_CODE = re.compile(r"Code:\s*(\d+)")
_STATUS = {60: 404, 81: 404, 516: 403}
_CANCELLED = "Code: 394. DB::Exception: Query was cancelled. (QUERY_WAS_CANCELLED)"


@dataclass
class Faults:
    """What goes wrong with the next `times` inserts.

    delay: seconds before the engine sees the insert. cut: the connection breaks before or after the engine has done it.
    error: a code that is answered instead. status: an HTTP status that a proxy answers instead.
    """

    times: int = 0
    delay: float = 0
    cut: Literal["", "before", "after"] = ""
    error: int = 0
    status: int = 0


@dataclass
class Running:
    """A statement on its way: `cancelled` is seen until the engine has it, `done` is set afterwards.

    `delayed`: an insert that an order holds back.
    """

    cancelled: threading.Event = field(default_factory=threading.Event)
    done: threading.Event = field(default_factory=threading.Event)
    delayed: bool = False


class Engine:
    """The embedded engine behind the front; a connection of its own for each statement."""

    def __init__(self, path: str) -> None:
        import chdb

        self._connect: Callable[[], Any] = lambda: chdb.connect(path)
        # The engine lives as long as one connection does.
        self._keeper = self._connect()
        self._lock = threading.Lock()
        self.running: dict[str, Running] = {}
        self.faults = Faults()

    def close(self) -> None:
        self._keeper.close()

    def take_faults(self) -> Faults:
        with self._lock:
            if self.faults.times <= 0:
                return Faults()
            self.faults.times -= 1
            return Faults(**asdict(self.faults))

    @contextmanager
    def named(self, query_id: str) -> Iterator[Running]:
        me = Running()
        with self._lock:
            if query_id in self.running:
                raise RuntimeError(f"Code: 216. DB::Exception: Query with id = {query_id} is already running.")
            self.running[query_id] = me
        try:
            yield me
        finally:
            with self._lock:
                del self.running[query_id]
            me.done.set()

    def kill(self, condition: str) -> None:
        """Cancel what matches; return when none of it runs any more."""
        with self._lock:
            running = dict(self.running)
        ids = ", ".join(_text(name) for name in running)
        if not ids:
            return
        found = self.run(f"SELECT query_id FROM (SELECT arrayJoin([{ids}]) AS query_id) WHERE {condition}", {}, {}, "")
        matching = [running[name] for name in found.decode().splitlines() if name in running]
        for one in matching:
            one.cancelled.set()
        for one in matching:
            one.done.wait()

    def run(self, sql: str | bytes, settings: dict[str, str], params: dict[str, str], database: str) -> bytes:
        connection = self._connect()
        try:
            if database:
                connection.query(f"USE `{database}`")
            for name, value in settings.items():
                connection.query(f"SET {name} = {_text(value)}")
            return bytes(connection.query(sql, "TabSeparated", params=params).bytes() or b"")
        finally:
            connection.close()

    def insert(self, head: str, form: str, data: bytes, settings: dict[str, str], database: str) -> None:
        with tempfile.NamedTemporaryFile(suffix=".insert") as file:
            file.write(data)
            file.flush()
            self.run(f"{head} FROM INFILE {_text(file.name)} FORMAT {form}", settings, {}, database)


def _text(value: str) -> str:
    return "'" + value.replace("\\", "\\\\").replace("'", "\\'") + "'"


def _decompressed(body: bytes, encoding: str) -> bytes:
    match encoding:
        case "gzip" | "deflate":
            return zlib.decompress(body, 47)
        case "lz4" | "zstd":
            return bytes(pa.input_stream(pa.BufferReader(body), compression=encoding).read())
    return body


class Handler(BaseHTTPRequestHandler):
    """One connection of a client."""

    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    wbufsize = -1
    engine: Engine

    def do_GET(self) -> None:
        path = urlsplit(self.path).path
        if path == "/ping":
            self._answer(200, b"Ok.\n", {})
        elif path == "/delayed":
            held = [name for name, one in list(self.engine.running.items()) if one.delayed]
            self._answer(200, json.dumps(held).encode(), {})
        else:
            self._statement(b"")

    def do_POST(self) -> None:
        body = _decompressed(self._body(), self.headers.get("Content-Encoding", ""))
        if urlsplit(self.path).path == "/faults":
            self.engine.faults = Faults(**json.loads(body))
            self._answer(200, b"", {})
        else:
            self._statement(body)

    def _body(self) -> bytes:
        if self.headers.get("Transfer-Encoding", "").lower() != "chunked":
            return self.rfile.read(int(self.headers.get("Content-Length", 0)))
        parts = []
        while size := int(self.rfile.readline().split(b";")[0], 16):
            parts.append(self.rfile.read(size))
            self.rfile.readline()
        self.rfile.readline()
        return b"".join(parts)

    def _statement(self, body: bytes) -> None:
        given = dict(parse_qsl(urlsplit(self.path).query, keep_blank_values=True))
        try:
            self._authenticate(given)
            query = given.get("query", "").encode()
            with self.engine.named(given.get("query_id") or f"{id(self)}-{time.monotonic_ns()}") as running:
                self._run(query + b"\n" + body if query else body, given, running)
        except Exception as error:  # noqa: BLE001 - answered to the client, whatever it is
            text = str(error)
            code = _CODE.search(text)
            number = int(code[1]) if code else 1002
            headers = {"X-ClickHouse-Exception-Code": str(number)}
            self._answer(_STATUS.get(number, 500), text[text.find("Code:") :].encode(), headers)

    def _authenticate(self, given: dict[str, str]) -> None:
        import base64

        basic = self.headers.get("Authorization", "")
        user, _, password = (base64.b64decode(basic[6:]).decode() if basic.startswith("Basic ") else ":").partition(":")
        user = self.headers.get("X-ClickHouse-User") or given.get("user") or user or USER
        password = self.headers.get("X-ClickHouse-Key") or given.get("password") or password
        if (user, password) != (USER, PASSWORD):
            raise PermissionError(f"Code: 516. DB::Exception: {user}: Authentication failed. (AUTHENTICATION_FAILED)")

    def _run(self, statement: bytes, given: dict[str, str], running: Running) -> None:
        settings = {k: v for k, v in given.items() if k not in _TRANSPORT and not k.startswith("param_")}
        params = {k[6:]: v for k, v in given.items() if k.startswith("param_")}
        database = given.get("database", "")
        kill = _KILL.match(statement.decode(errors="replace"))
        insert = _INSERT.match(statement)
        if kill:
            self.engine.kill(kill[1])
            self._answer(200, b"", {})
        elif insert:
            self._insert(insert, statement[insert.end() :], settings, database, running)
        else:
            form = _FORMAT.search(statement.rstrip())
            default = given.get("default_format") or self.headers.get("X-ClickHouse-Format") or "TabSeparated"
            if not form and re.match(rb"\s*(SELECT|SHOW|DESC|EXISTS|WITH|EXPLAIN)", statement, re.IGNORECASE):
                statement = statement.rstrip() + f"\nFORMAT {default}".encode()
            found = self.engine.run(statement, settings, params, database)
            name = form[1].decode() if form else default
            self._answer(200, found, {"X-ClickHouse-Format": name} if found else {})

    def _insert(
        self, insert: re.Match[bytes], data: bytes, settings: dict[str, str], database: str, running: Running
    ) -> None:
        faults = self.engine.take_faults()
        running.delayed = faults.delay > 0
        if running.cancelled.wait(faults.delay):
            raise InterruptedError(_CANCELLED)
        if faults.error:
            raise RuntimeError(f"Code: {faults.error}. DB::Exception: By order of the test.")
        if faults.status:
            self.send_response(faults.status)
            self.send_header("Content-Length", "0")
            self.end_headers()
            return
        if faults.cut != "before":
            self.engine.insert(insert[1].decode(), insert[2].decode(), data, settings, database)
        if faults.cut:
            self.close_connection = True
            self.connection.close()
            return
        self._answer(200, b"", {})

    def _answer(self, status: int, body: bytes, headers: dict[str, str]) -> None:
        self.send_response(status)
        for name, value in {"X-ClickHouse-Timezone": "UTC", "X-ClickHouse-Summary": "{}", **headers}.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Silent."""


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A connection that was cut by order, or by the client."""


class Front:
    """The front in a process of its own, which ends with this one."""

    def __init__(self, folder: Path, port: int = 0) -> None:
        self._folder = folder
        self._port = port
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def port(self) -> int:
        return self._port

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._port}/default"

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    def start(self) -> None:
        """Returns when it answers; after `kill` or `stop` again on the same port."""
        command = [sys.executable, "-m", "syncd.testing.clickhouse_http", str(self._folder), "--port", str(self._port)]
        self._process = subprocess.Popen([*command, "--leash"], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        assert self._process.stdout is not None
        ready = self._process.stdout.readline()
        if not ready.strip().isdigit():
            self.stop()
            raise RuntimeError(f"the front did not start: {ready.decode()}")
        self._port = int(ready)

    def faults(self, faults: Faults) -> None:
        address = f"http://127.0.0.1:{self._port}/faults"
        with urlopen(Request(address, data=json.dumps(asdict(faults)).encode(), method="POST"), timeout=10):
            pass

    def delayed(self) -> list[str]:
        """The query ids of the inserts that an order holds back now."""
        with urlopen(f"http://127.0.0.1:{self._port}/delayed", timeout=30) as answer:
            found: list[str] = json.loads(answer.read())
        return found

    def kill(self) -> None:
        """SIGKILL, as a power cut of the process."""
        if self._process is not None:
            self._process.kill()
        self.stop()

    def stop(self) -> None:
        if self._process is None:
            return
        process, self._process = self._process, None
        for pipe in (process.stdin, process.stdout):
            if pipe is not None:
                pipe.close()
        process.wait(30)

    def __enter__(self) -> Front:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()


def _follow(server: _Server) -> None:
    """The process ends when the one that holds the other end of its standard input does."""
    sys.stdin.buffer.read()
    server.shutdown()


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m syncd.testing.clickhouse_http", description=__doc__)
    parser.add_argument("folder")
    parser.add_argument("--port", type=int, default=8123)
    parser.add_argument("--leash", action="store_true", help="end when standard input ends")
    given = parser.parse_args()
    engine = Engine(given.folder)
    server = _Server(("127.0.0.1", given.port), type("BoundHandler", (Handler,), {"engine": engine}))
    if given.leash:
        threading.Thread(target=_follow, args=(server,), daemon=True).start()
    os.write(1, f"{server.server_port}\n".encode())
    server.serve_forever()
    engine.close()


if __name__ == "__main__":
    main()
