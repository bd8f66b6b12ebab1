"""The folder that tests name in `plugin_paths`: sinks by name, a file each."""

from __future__ import annotations

from pathlib import Path

FOLDER = Path(__file__).parent
