"""The log's form, in a process of its own."""

from __future__ import annotations

import json
import os
import pty
import subprocess
import sys

import pytest

CODE = """
import logging
from syncd import logs
logs.configure("info", "json", lambda event: {k: str(v).replace("secret", "***") for k, v in event.items()})
logging.getLogger("driver.part").warning("a %s was slow", "secret server")
logging.getLogger("driver.part").info("chatter")
logging.getLogger("urllib3").setLevel(logging.WARNING)  # as clickhouse_connect does
logging.getLogger("urllib3.connectionpool").warning("Retrying")  # an error of ours comes after it
"""


def test_what_libraries_say_is_a_line_of_ours_with_secrets_hidden() -> None:
    done = subprocess.run([sys.executable, "-c", CODE], capture_output=True, text=True, check=True)
    (line,) = map(json.loads, done.stderr.splitlines())
    del line["timestamp"]
    assert line == {"event": "library", "logger": "driver.part", "message": "a *** server was slow", "level": "warning"}


@pytest.mark.parametrize(
    ("terminal", "no_color", "coloured"), [(True, "", True), (True, "1", False), (False, "", False)]
)
def test_colours_are_for_terminals_of_people_who_want_them(terminal: bool, no_color: str, coloured: bool) -> None:
    code = (
        "import structlog; from syncd import logs; logs.configure('info', 'text'); structlog.get_logger().info('heard')"
    )
    reading, writing = pty.openpty() if terminal else os.pipe()
    env = {**os.environ, "NO_COLOR": no_color}
    subprocess.run([sys.executable, "-c", code], stderr=writing, env=env, check=True)
    said = os.read(reading, 1000)
    os.close(reading)
    os.close(writing)
    assert b"heard" in said
    assert (b"\x1b[" in said) is coloured
