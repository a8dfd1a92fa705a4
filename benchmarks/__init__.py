"""Benchmarks: how fast the server is, and how fast the usual ways are, in one run."""

BUNDLE = "BENCH_BUNDLE"
"""Environment variable in which the servers that are compared find the model's folder."""
