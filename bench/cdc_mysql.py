"""Draining a backlog of row changes: MariaDB's log, syncd's queue, another MariaDB; events per second.

    bench/run cdc_mysql [--quick] [--json] [--rounds N]

As `cdc_oceanbase`, in every respect but the target.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence

from bench import cdc_oceanbase
from syncd.testing.servers import MariaDB


def main(argv: Sequence[str]) -> int:
    return cdc_oceanbase.main(argv, MariaDB, __doc__)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
