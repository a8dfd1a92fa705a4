"""Bulk: `cxr predict --output`, a run over whole folders that can be resumed.

`options` -> `command` -> `scan` (files) -> `answers` (rows) -> `cxr_client.bulk` (journal, tables);
`meter` shows how far it is.
"""
