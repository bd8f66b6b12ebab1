"""Faults that a test orders from a sink."""

from __future__ import annotations

import os
import signal
from pathlib import Path
from typing import Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from pydantic import BaseModel, ConfigDict, Field

from syncd.errors import TransientError
from syncd.model import ChangeBatch


class Faults(BaseModel):
    """What goes wrong in `write`; the n-th write is counted per instance, from 1."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    delay: float = Field(default=0, description="Seconds that every write takes at least.")
    fail_every: int = Field(default=0, description="Every n-th write fails with TransientError; nothing is stored.")
    refuse: dict[str, tuple[str, ...]] = Field(
        default_factory=dict, description="Column -> texts: rows that hold one of them are refused."
    )
    die_of: dict[str, tuple[str, ...]] = Field(
        default_factory=dict, description="Column -> texts: a row that holds one of them kills the process."
    )
    die_at: int = Field(default=0, description="The n-th write kills its process with SIGKILL.")
    die: Literal["before", "after"] = Field(default="before", description="Before or after the commit.")
    die_once: Path | None = Field(default=None, description="A file that is made at the kill; while it is there: none.")

    @classmethod
    def now(cls, fixed: Faults, file: Path | None) -> Faults:
        """What `file` says while it exists, else `fixed`. Write the file elsewhere and rename it into place."""
        try:
            return cls.model_validate_json(file.read_bytes()) if file else fixed
        except FileNotFoundError:
            return fixed

    def before(self, number: int) -> None:
        if self.fail_every and number % self.fail_every == 0:
            raise TransientError(f"write {number} fails by order", retry_after=0.05)
        self._die("before", number)

    def after(self, number: int) -> None:
        self._die("after", number)

    def _die(self, when: str, number: int) -> None:
        if number != self.die_at or when != self.die or (self.die_once and self.die_once.exists()):
            return
        if self.die_once:
            self.die_once.touch()
        os.kill(os.getpid(), signal.SIGKILL)

    def refused(self, batch: ChangeBatch) -> dict[int, str]:
        """Index of each row to refuse -> reason; a row to die of kills the process first."""
        if _hits(self.die_of, batch):
            os.kill(os.getpid(), signal.SIGKILL)
        return {row: f"{column} is refused by order" for row, column in _hits(self.refuse, batch).items()}


def _hits(wanted: dict[str, tuple[str, ...]], batch: ChangeBatch) -> dict[int, str]:
    """Index of each row that holds one of the texts -> the column."""
    found: dict[int, str] = {}
    for column, texts in wanted.items():
        if column not in batch.rows.schema.names:
            continue
        values = batch.rows.column(column)
        hit = pc.fill_null(pc.is_in(values.cast(pa.string()), value_set=pa.array(texts, pa.string())), False)
        found.update({int(i): column for i in np.flatnonzero(hit)})
    return found
