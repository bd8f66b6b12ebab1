"""What the daemon tells over HTTP."""

from syncd.api.server import serving

__all__ = ["serving"]
