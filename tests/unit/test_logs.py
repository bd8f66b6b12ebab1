"""The log's form, in a process of its own."""

from __future__ import annotations

import json
import subprocess
import sys

CODE = """
import logging
from syncd import logs
logs.configure("info", "json", lambda event: {k: str(v).replace("secret", "***") for k, v in event.items()})
logging.getLogger("driver.part").warning("a %s was slow", "secret server")
logging.getLogger("driver.part").info("chatter")
"""


def test_what_libraries_say_is_a_line_of_ours_with_secrets_hidden() -> None:
    done = subprocess.run([sys.executable, "-c", CODE], capture_output=True, text=True, check=True)
    (line,) = map(json.loads, done.stderr.splitlines())
    del line["timestamp"]
    assert line == {"event": "library", "logger": "driver.part", "message": "a *** server was slow", "level": "warning"}
