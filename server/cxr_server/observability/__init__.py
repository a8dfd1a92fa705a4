"""Observability: logs, metrics, and what is known of a call."""
