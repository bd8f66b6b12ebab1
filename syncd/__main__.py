"""`python -m syncd` and the `syncd` command.

The command line is imported only when it runs: every worker imports this module again.
"""

import sys

from syncd import without_pandas


def main() -> None:
    """Run the command line. Ctrl-C ends it without a trace, also while it is still imported."""
    try:
        without_pandas.go()
        from syncd.cli import main as run

        run()
    except KeyboardInterrupt:
        sys.exit(130)  # `syncd.cli.INTERRUPTED`, which may not be there yet


if __name__ == "__main__":
    main()
