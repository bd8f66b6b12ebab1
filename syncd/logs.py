"""structlog, set up once in each process: text for a terminal, one JSON object a line for everything else.

The settings reach worker processes through two environment variables, since a spawned process starts from nothing.
"""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Callable
from typing import Any

import structlog
import structlog.tracebacks

LEVEL = "SYNCD_LOG_LEVEL"
FORMAT = "SYNCD_LOG_FORMAT"

TOLD_BY_ERRORS = ("urllib3", "clickhouse_connect")
"""Libraries whose warnings (a retry, a lost connection) come again as an error of ours that says what to do."""

# Without the frames' variables: they hold rows, and a row may hold what a mask is to hide.
_stack = structlog.processors.ExceptionRenderer(
    structlog.tracebacks.ExceptionDictTransformer(show_locals=False, max_frames=20)
)


def configure(
    level: str | None = None, form: str | None = None, hide: Callable[[Any], Any] = lambda event: event
) -> None:
    """`level`: debug, info, warning, error; `form`: auto, text, json. None: what the environment says.

    `hide` takes an event's fields and gives them back with the job's secrets masked.
    """
    level = level or os.environ.get(LEVEL, "info")
    form = form or os.environ.get(FORMAT, "auto")
    os.environ[LEVEL], os.environ[FORMAT] = level, form
    text = form == "text" or (form == "auto" and sys.stderr.isatty())
    renderer = (
        structlog.dev.ConsoleRenderer(
            colors=sys.stderr.isatty() and not os.environ.get("NO_COLOR"),
            exception_formatter=structlog.dev.plain_traceback,
        )
        if text
        else structlog.processors.JSONRenderer()
    )
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            *([] if text else [_stack]),
            lambda _logger, _method, event: hide(event),
            renderer,
        ],
        wrapper_class=structlog.make_filtering_bound_logger(logging.getLevelNamesMapping()[level.upper()]),
        logger_factory=structlog.WriteLoggerFactory(sys.stderr),
        cache_logger_on_first_use=False,
    )
    logging.basicConfig(handlers=[_Libraries()], level=logging.WARNING, force=True)


class _Libraries(logging.Handler):
    """What libraries say by `logging`, in the form of our own lines; without tracebacks, since they may hold values."""

    def emit(self, record: logging.LogRecord) -> None:
        # Not by the loggers' own levels: clickhouse_connect sets them when it is imported.
        if record.levelno < logging.ERROR and record.name.partition(".")[0] in TOLD_BY_ERRORS:
            return
        try:
            structlog.get_logger().log(record.levelno, "library", logger=record.name, message=record.getMessage())
        except (OSError, ValueError):  # the error stream is closed
            self.handleError(record)
