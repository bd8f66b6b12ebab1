"""(to be written)"""
from __future__ import annotations
from syncd.sources.mysql.binlog.cells import Cells, Convert, Place
import pyarrow as pa
def json_text(place: Place) -> Convert:
    def convert(cells: Cells) -> pa.Array:
        raise place.unsupported("JSON")
    return convert
