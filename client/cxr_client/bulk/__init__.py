"""Bulk: the files of a run over whole folders.

`journal` appends the rows of `cxr_client.runs`, which `rows` makes of answers and `identity` gives
their keys and names; `embeddings` lie beside it, and `export` makes tables of it.
"""
