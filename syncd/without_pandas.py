"""pyarrow imports pandas, where it is there, at its first array: half a second of every process, for nothing."""

from __future__ import annotations

import sys
from importlib.abc import MetaPathFinder


class _WithoutPandas(MetaPathFinder):
    def find_spec(self, fullname: str, path: object = None, target: object = None) -> None:
        if fullname == "pandas":
            raise ModuleNotFoundError("pandas is not used by syncd", name="pandas")


def go() -> None:
    """This process does without it from now on."""
    sys.meta_path.insert(0, _WithoutPandas())
