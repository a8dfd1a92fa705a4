"""Interceptors: steps of one job each around every method, for any service, unary or streaming.

From the outside in: `errors` (domain error -> status), `audit` (a line in a file, if wanted),
`context` (id; log and metrics of the ended call), `auth` (bearer token), `admission` (phase, calls
and bytes in flight), `longest_call` (a deadline for every call). `chain` runs a method inside them,
and reads a unary request only then, within a `time_limit`: a refusal reaches the caller before the
upload.
"""
