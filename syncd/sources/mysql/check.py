"""stub"""

from __future__ import annotations


def check(connection, options, name):
    return []
