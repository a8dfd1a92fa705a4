"""The command `evaluate`: what the shell gives -> `cxr_client.evaluation` -> files and a table."""
