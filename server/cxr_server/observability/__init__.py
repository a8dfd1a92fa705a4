"""Observability: logs, metrics, and what is known of the call being answered."""
