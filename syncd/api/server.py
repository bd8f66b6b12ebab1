"""`/metrics`, `/healthz` and `/readyz`, from threads of their own beside the daemon's work."""

from __future__ import annotations

import json
import socket
import socketserver
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler
from typing import Any, NamedTuple, cast

import structlog
from prometheus_client import CollectorRegistry
from prometheus_client.exposition import choose_encoder

from syncd import __version__
from syncd.api.looker import Looker
from syncd.config import Service
from syncd.config.service import Metrics
from syncd.engine import queue_used
from syncd.engine.daemon import Daemon
from syncd.errors import ConfigError
from syncd.ops import health
from syncd.ops.metrics import Live, families, look

log = structlog.get_logger()


class Reply(NamedTuple):
    status: HTTPStatus
    type: str
    body: bytes


Pages = Mapping[str, Callable[[str], Reply]]
"""Path -> what it answers; it is given the request's `Accept`."""


class Server(socketserver.ThreadingTCPServer):
    """One thread a request: who reads slowly holds up nobody."""

    allow_reuse_address = True
    daemon_threads = True

    def __init__(self, address: tuple[str, int], pages: Pages) -> None:
        self.address_family = socket.AF_INET6 if ":" in address[0] else socket.AF_INET
        self.pages = pages
        super().__init__(address, Handler)

    @property
    def place(self) -> str:
        host, port = self.server_address[:2]
        return f"[{host!s}]:{port}" if ":" in str(host) else f"{host!s}:{port}"

    def handle_error(self, request: Any, client_address: Any) -> None:
        """One that broke the connection off is no news."""
        error = sys.exception()
        if not isinstance(error, ConnectionError | TimeoutError):
            log.error("request_failed", exc_info=error)


class Handler(BaseHTTPRequestHandler):
    timeout = 10.0
    server_version, sys_version = f"syncd/{__version__}", ""

    def do_GET(self) -> None:
        pages = cast(Server, self.server).pages
        page = pages.get(self.path.partition("?")[0])
        if page is None:
            reply = Reply(HTTPStatus.NOT_FOUND, "text/plain; charset=utf-8", ("\n".join(pages) + "\n").encode())
        else:
            reply = page(self.headers.get("Accept", ""))
        self.send_response(reply.status)
        self.send_header("Content-Type", reply.type)
        self.send_header("Content-Length", str(len(reply.body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(reply.body)

    def do_HEAD(self) -> None:
        self.do_GET()

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002
        """A scrape is no news."""


class Facts:
    """What the pages say of a daemon."""

    def __init__(self, daemon: Daemon, looker: Looker, settings: Metrics) -> None:
        self._daemon = daemon
        self._looker = looker
        self._settings = settings
        self._one = threading.Lock()  # a page of ten thousands of series takes its memory once
        self.pages: Pages = {"/metrics": self.metrics, "/healthz": self.healthz, "/readyz": self.readyz}

    def _step_age(self) -> float:
        return time.monotonic() - self._daemon.stepped

    def metrics(self, accept: str) -> Reply:
        runners = [*self._daemon.runners]
        live = Live(
            self._step_age(),
            self._daemon.sums.now(),
            {runner.name: runner.workers() for runner in runners},
            {runner.name: runner.loaded() for runner in runners},
        )
        encode, kind = choose_encoder(accept)
        seen = self._looker.latest()
        with self._one:
            found = families(live, seen, lanes=self._settings.lanes)
            return Reply(HTTPStatus.OK, kind, encode(cast(CollectorRegistry, found)))

    def healthz(self, _: str) -> Reply:
        return _json(*health.healthy(self._step_age()))

    def readyz(self, _: str) -> Reply:
        failed = {runner.name for runner in [*self._daemon.runners] if runner.failed is not None}
        return _json(*health.ready(self._looker.latest(), failed, self._settings.ready_wait))


def _json(good: bool, answer: Mapping[str, object]) -> Reply:
    status = HTTPStatus.OK if good else HTTPStatus.SERVICE_UNAVAILABLE
    return Reply(status, "application/json", (json.dumps(answer, ensure_ascii=False) + "\n").encode())


@contextmanager
def serving(service: Service, daemon: Daemon) -> Iterator[None]:
    """Serve while the block lasts, where the service says. ConfigError: the address cannot be had."""
    parts, names = daemon.jobs[0], [job.job.name for job in daemon.jobs]
    looker = Looker(
        lambda: queue_used.opened(parts.make_queue(), service),
        lambda queue: look(queue, service.data, names, service.heartbeat),
    )
    server = _bound(service.metrics, Facts(daemon, looker, service.metrics).pages)
    if server is None:
        yield
        return
    thread = threading.Thread(target=partial(server.serve_forever, 0.2), name="metrics", daemon=True)
    with server, looker:
        thread.start()
        log.info("metrics_served", address=server.place)
        try:
            yield
        finally:
            server.shutdown()
            thread.join()


def _bound(settings: Metrics, pages: Pages) -> Server | None:
    if settings.address is None:
        return None
    try:
        return Server(settings.address, pages)
    except OSError as error:
        fault = ConfigError(
            f"{settings.listen}: {error.strerror}; metrics and health are served there",
            key="metrics.listen",
            hint="give another HOST:PORT in the service file, or `metrics: {listen: off}`",
            code="C131",
        )
        if "listen" in settings.model_fields_set:
            raise fault from error
        log.warning("metrics_not_served", error=str(fault))  # another daemon has the default port
        return None
