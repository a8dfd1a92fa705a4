"""Causes: gRPC's message about a failed connection -> a sentence. Next: link."""

import re

NO_ANSWER = "nothing answers there"

_CLOSED = "it closed the connection"
_OTHER_NAME = "its certificate is for another name; if that is expected, set tls.server_name to it"
_CAUSES = {
    r"Connection refused": "connection refused",
    r"resolving|resolution|name not found|not known": "the name cannot be resolved",
    r"(?i)timed? ?out|handshaker shutdown": NO_ANSWER,
    r"No route to host|[Uu]nreachable": "there is no route to it",
    r"No such file": "there is no such socket",
    r"Permission denied": "permission denied",
    r"CERTIFICATE_VERIFY_FAILED": "its certificate is not trusted",
    r"Hostname Verification|not in peer certificate": _OTHER_NAME,
    r"WRONG_VERSION_NUMBER": "it does not use TLS",
    r"create security handshaker": "a TLS file is not valid, or the key is another one's",
    r"[Hh]andshake failed": "the TLS handshake failed",
    r"parsing HTTP/2": "it is not a gRPC server",
    r"backend unhealthy": "no server there reports that it is serving",
    r"[Cc]losed|reset|Broken pipe|GOAWAY": _CLOSED,
}
# "connections to all backends failing; last error: UNKNOWN: ipv4:127.0.0.1:1: ..."
_PREFIX = re.compile(r"^.*last error: (?:[A-Z_]+: (?:ipv[46]:\S+: )?)?")


def cause_of(details: str, *, tls: bool, connected: bool) -> str:
    """Return what is wrong with a connection.

    Args:
        details: The text of gRPC. What is not recognised stays as it is.
        tls: Whether the client uses TLS.
        connected: Whether it had been connected.
    """
    cause = next((cause for text, cause in _CAUSES.items() if re.search(text, details)), None)
    if cause is _CLOSED and not connected:
        # The peer does not say why; these are the usual reasons.
        cause += f" (it may require {'a client certificate' if tls else 'TLS'})"
    return cause or _PREFIX.sub("", details)
