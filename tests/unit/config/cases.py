"""Bad job files and what is said of them: "# name", the file, "---- says", the message's lines."""

from __future__ import annotations

from pathlib import Path

FILE = Path(__file__).with_name("faults.txt")


def cases() -> dict[str, tuple[str, str]]:
    """Name -> (text of the file, message)."""
    found = {}
    for part in FILE.read_text(encoding="utf-8").split("==== ")[1:]:
        name, _, rest = part.partition("\n")
        text, _, says = rest.partition("---- says\n")
        found[name] = (text.replace("<TAB>", "\t").replace("<NUL>", "\0"), says.strip())
    return found
