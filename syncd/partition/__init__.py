"""Which queue a row belongs to: canonical key bytes, their XXH64, and what follows from it.

The layout of the key bytes and the hash are part of the stored contract: a change of either would move keys between
queues and break their order. `docs/partitioning.md` has the rules and the test vectors. Everything works on whole Arrow
columns; no row becomes a Python object.
"""

from syncd.partition.keys import SLOTS, ends_per_key, key_bytes, key_hash, last_per_key, queues, slots
from syncd.partition.text import key_text
from syncd.partition.xxh64 import xxh64

__all__ = ["SLOTS", "ends_per_key", "key_bytes", "key_hash", "key_text", "last_per_key", "queues", "slots", "xxh64"]
