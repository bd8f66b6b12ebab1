"""Ctrl-C in the first moments of a command."""

from __future__ import annotations

import subprocess
import sys

CODE = """
import sys

class CtrlC:
    def find_spec(self, name, path=None, target=None):
        if name == "syncd.cli":
            raise KeyboardInterrupt

sys.meta_path.insert(0, CtrlC())
from syncd.__main__ import main
main()
"""


def test_ctrl_c_while_the_command_line_is_imported_leaves_no_trace() -> None:
    done = subprocess.run([sys.executable, "-c", CODE], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (130, "", "")
