"""`python -m syncd` and the `syncd` command.

The command line is imported only when it runs: every spawned worker imports this module again, before all others.
"""

import multiprocessing
import sys
from importlib.abc import MetaPathFinder


class _WithoutPandas(MetaPathFinder):
    """pyarrow imports pandas, where it is there, at its first array: half a second of every process, for nothing."""

    def find_spec(self, fullname: str, path: object = None, target: object = None) -> None:
        if fullname == "pandas":
            raise ModuleNotFoundError("pandas is not used by syncd", name="pandas")


def main() -> None:
    """Run the command line. Ctrl-C ends it without a trace, also while it is still imported."""
    try:
        sys.meta_path.insert(0, _WithoutPandas())
        from syncd.cli import main as run

        run()
    except KeyboardInterrupt:
        sys.exit(130)  # `syncd.cli.INTERRUPTED`, which may not be there yet


if __name__ == "__main__":
    main()
elif multiprocessing.parent_process() is not None:
    sys.meta_path.insert(0, _WithoutPandas())
