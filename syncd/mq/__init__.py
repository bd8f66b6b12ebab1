"""Queues, one module or folder per system."""
