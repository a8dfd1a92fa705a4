"""Benchmarks: throughput and latency of this server and of comparable ones, in one run."""

BUNDLE = "BENCH_BUNDLE"
"""Environment variable that holds the folder of the model for the compared servers."""
