"""Benchmarks: each prints one table and writes one JSON to bench/out/. None of them asserts a time."""
