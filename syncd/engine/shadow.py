"""The names of tables that are loaded beside a target, to take its place."""

from __future__ import annotations

import hashlib

MOST_BYTES = 60
"""Of UTF-8. A name has 64 characters at most at MySQL, where the table that makes room is called `..._old`; the other
sinks take this many bytes in any case, also where each is escaped in the name of a file."""
_HASH_BYTES = 6


def shadow_name(target: str, suffix: str) -> str:
    """`suffix`: see `TableRecord.shadow`. A long name loses its end, and a hash of all of it tells it from others."""
    name = target + suffix
    if len(name.encode()) <= MOST_BYTES:
        return name
    end = f"_{hashlib.blake2b(target.encode(), digest_size=_HASH_BYTES).hexdigest()}{suffix}"
    return target.encode()[: MOST_BYTES - len(end.encode())].decode(errors="ignore") + end
