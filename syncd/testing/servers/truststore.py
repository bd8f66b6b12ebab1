"""Gives an unpacked Java the certificate authorities that this machine trusts."""

from __future__ import annotations

import hashlib
import ssl
import struct
from pathlib import Path

_PASSWORD = "changeit"  # the format wants one; it protects nothing here, the certificates are public
_MAGIC, _FORMAT, _TRUSTED = 0xFEEDFEED, 2, 2


def _text(value: str) -> bytes:
    data = value.encode()
    return struct.pack(">H", len(data)) + data


def write_truststore(path: Path) -> Path | None:
    """Write the machine's authorities to `path` in Java's own format and return it; None if the machine has none.

    A package that is only unpacked has not run the script that would have written this file.
    """
    context = ssl.create_default_context()
    authorities = context.get_ca_certs(binary_form=True)
    if not authorities:
        return None
    body = struct.pack(">III", _MAGIC, _FORMAT, len(authorities))
    for number, der in enumerate(authorities):
        body += struct.pack(">I", _TRUSTED) + _text(f"ca{number}") + struct.pack(">Q", 0)
        body += _text("X.509") + struct.pack(">I", len(der)) + der
    digest = hashlib.sha1(_PASSWORD.encode("utf-16-be") + b"Mighty Aphrodite" + body).digest()
    partial = path.with_suffix(".new")
    partial.write_bytes(body + digest)
    return partial.rename(path)
