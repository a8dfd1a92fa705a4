"""Subcommands of `cxr-server`, each a module with `add_arguments` and `run`."""
