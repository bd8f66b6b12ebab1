from __future__ import annotations

import pytest

from syncd.errors import FatalError
from syncd.sources.mysql.binlog import seq

VECTORS = [
    ((0, 0, 0), 0x0000000000000000),
    ((0, 1, 4), 0x0000001000000004),
    ((1, 1, 4), 0x0100001000000004),
    ((1, 42, 1234), 0x010002A0000004D2),
    ((3, 999_999, 4_294_967_300), 0x03F423F100000004),
    ((255, 1_048_575, 68_719_476_735), 0xFFFFFFFFFFFFFFFF),
]
"""Those of docs/ordering.md; the layout is frozen."""


@pytest.mark.parametrize(("parts", "number"), VECTORS)
def test_vectors(parts: tuple[int, int, int], number: int) -> None:
    assert seq.make(*parts) == number
    assert seq.split(number) == parts


@pytest.mark.parametrize("parts", [(256, 0, 0), (0, 1 << 20, 0), (0, 0, 1 << 36), (-1, 0, 0)])
def test_what_does_not_fit_is_named(parts: tuple[int, int, int]) -> None:
    with pytest.raises(FatalError, match="does not fit"):
        seq.make(*parts)


def test_file_numbers() -> None:
    assert seq.file_number("binlog.000042") == 42
    assert seq.file_number("a.b.1048575") == 1048575
    for name in ("binlog", "binlog.x1", "binlog.1048576", ""):
        with pytest.raises(FatalError):
            seq.file_number(name)
