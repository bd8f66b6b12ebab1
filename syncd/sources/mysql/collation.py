"""stub"""
from __future__ import annotations
import pyarrow as pa
from syncd.model import Column
_PLAIN=set()
def needs_twin(column: Column) -> bool:
    return False
class Normaliser:
    def __init__(self, directory, connect): pass
    def __call__(self, column, values): raise NotImplementedError
    def refusal(self, column): return ""
    def key(self, schema, values): return values
