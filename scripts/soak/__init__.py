"""Soak test: overload a server for minutes and check every outcome."""
