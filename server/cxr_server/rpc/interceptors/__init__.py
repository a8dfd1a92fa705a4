"""Interceptors: one job each, for any service, unary or streaming.

From the outside in: `errors` (domain error -> status), `context` (id, caller, log and metrics of
the ended call), `auth` (bearer token), `admission` (phase, calls and bytes in flight), `receive`
(reads a unary request). Because `receive` comes last, the others run before the request's body
has been read: a refusal reaches the caller before the upload.
"""
