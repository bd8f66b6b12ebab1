"""Benches: `bench/run NAME`."""
