"""Unpack packages from a shell: `python3 -m syncd.testing.servers [--suite SUITE] [--only] PACKAGE...`."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from syncd.testing.servers.debroot import unpack
from syncd.testing.servers.errors import ServerUnavailable


def main(argv: Sequence[str] | None = None) -> int:
    """Unpack the packages named on the command line and print the folder they are in."""
    parser = argparse.ArgumentParser(prog="python3 -m syncd.testing.servers", description=__doc__)
    parser.add_argument("--suite", help="another release of the same archive, for example sid")
    parser.add_argument("--only", action="store_true", help="without dependencies")
    parser.add_argument("--what", default="", help="what it is for, told before the download")
    parser.add_argument("packages", nargs="+", help="a package, or several to choose from: a|b")
    args = parser.parse_args(argv)
    try:
        print(unpack(args.packages, suite=args.suite, only=args.only, what=args.what).path)  # noqa: T201
    except ServerUnavailable as e:
        print(f"syncd: {e}", file=sys.stderr)  # noqa: T201
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
