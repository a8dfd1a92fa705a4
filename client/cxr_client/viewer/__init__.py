"""Viewer: the page of `cxr view`, and the web server that answers it from a model server.

    browser -> security -> app -> body or films -> relay -> AsyncClient -> model server

Requires the extra "viewer" (Starlette and uvicorn). Only `cxr view` imports it.
"""
