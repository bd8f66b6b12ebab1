"""Computed columns: the log of a MariaDB server into Arrow columns and what is computed of them, beside decoding alone.

The log of statements of many rows of `bench/decode.py`, where decoding is fastest and computing weighs most.

    bench/run compute [--quick] [--json] [--rounds N]
"""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence

from bench.data import EVENTS, QUICK_EVENTS, QUICK_ROWS, ROWS
from bench.decode import SCHEMA, decoded, logs, measured
from bench.measure import Figure, emit, median, parser, spread
from syncd.config import TableRule
from syncd.testing.log_bytes import packets
from syncd.transforms import build

RULES: Mapping[str, Mapping[str, str]] = {
    "none": {},
    "three": {
        "sku_part": "split(sku, '-', 2)",
        "label": "concat(sku, ' ', status, ' ', qty)",
        "amount": "cast(amount as decimal(20,4))",
    },
    "arithmetic": {"total": "amount * qty"},
    "JSON": {"color": "attrs ->> '$.color'"},
    "hash": {"hashed": "hash(sku)"},
}


def main(argv: Sequence[str]) -> int:
    arguments = parser(__doc__).parse_args(argv)
    size = (QUICK_ROWS, QUICK_EVENTS) if arguments.quick else (ROWS, EVENTS)
    log = packets(logs(*size)["large"].read_bytes())
    decoded(log)  # a first run, with all imports
    transforms = {
        name: build(TableRule(SCHEMA.table, str(SCHEMA.table), SCHEMA.table, compute=rule), SCHEMA)
        for name, rule in RULES.items()
    }
    bare: list[float] = []
    rates: dict[str, list[float]] = {name: [] for name in RULES}
    for _ in range(arguments.rounds or 3):
        bare.append(measured(lambda: decoded(log)).rate)
        for name, transform in transforms.items():
            rates[name].append(measured(lambda apply=transform.apply: decoded(log, apply)).rate)  # type: ignore[misc]
    for name, each in rates.items():
        ratio = median([ours / alone for ours, alone in zip(each, bare, strict=True)])
        figure = Figure(
            f"rows_per_s, {name}",
            median(each),
            "row changes per processor second",
            {"decoding alone": median(bare)},
            ratio,
            spread=spread(each),
            rounds=len(each),
        )
        emit(figure, as_json=arguments.json)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
