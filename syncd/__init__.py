"""syncd keeps copies of your data right, in other systems."""

__version__ = "0.1.0"
