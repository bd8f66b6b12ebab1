"""Names and steps on the disk that are durable when they return."""

from __future__ import annotations

import os
import re
import uuid
from pathlib import Path

PART = "_part-"
"""Begins the name of a file that is not finished."""
_PLAIN = re.compile(r"[A-Za-z0-9_.$-]|[^\x00-\x7f]")


def folder_name(name: str) -> str:
    """A folder for any name, another one for any other: what readers or shells take as theirs is percent-encoded.

    Readers leave out what begins with `_` or `.`, and take `*?[]{}` for patterns and `a=b` for a partition.
    """
    text = "".join(c if _PLAIN.match(c) else f"%{ord(c):02X}" for c in name)
    return (f"%{ord(text[0]):02X}{text[1:]}" if text[0] in "._" else text) if text else "%"


def fsync(path: Path) -> None:
    """A file's bytes, or a folder's names."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def make_folder(path: Path) -> None:
    """With all folders above it; each name is durable."""
    if path.is_dir():
        return
    make_folder(path.parent)
    path.mkdir(exist_ok=True)
    fsync(path.parent)


def replace(path: Path, data: bytes) -> None:
    """The file is there with `data`, whole, or as it was before."""
    part = path.with_name(PART + uuid.uuid4().hex)
    part.write_bytes(data)
    fsync(part)
    part.rename(path)
    fsync(path.parent)
