"""TLS: the files of certificate, key and client CA, checked before gRPC reads them.

gRPC reports a file that it cannot use on stderr, in lines of its own, and raises an error that
names none.
"""

import re
import ssl
import stat
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

from cxr_server.settings import Settings, SettingsError

_BLOCK = re.compile(r"-----BEGIN ([A-Z0-9 ]+)-----.+?-----END \1-----", re.DOTALL)
_OTHERS_READ = stat.S_IROTH
_NO_CHECK_TIME = 0x200000  # OpenSSL's X509_V_FLAG_NO_CHECK_TIME, which the module ssl does not name


def check_tls(settings: Settings) -> Iterator[str]:
    """Yield what to warn of. Raises SettingsError, naming the file that no server could use."""
    if not settings.tls_cert:
        return
    _read(settings, "tls_cert", "CERTIFICATE")
    key = _read(settings, "tls_key", "PRIVATE KEY")
    if "BEGIN ENCRYPTED" in key or "4,ENCRYPTED" in key:  # PKCS #8, or the older form
        raise SettingsError(
            f"{settings.told('tls_key')} is encrypted, and the server cannot ask for a passphrase:"
            f" write the key without one, `openssl pkey -in {settings.tls_key} -out NEW.pem`"
        )
    if Path(settings.tls_key).stat().st_mode & _OTHERS_READ:
        yield f"{settings.told('tls_key')} can be read by every user: chmod 600"
    try:
        server_certificate(settings)
    except ssl.SSLError as error:
        reason = getattr(error, "verify_message", None) or error.reason
        yield f"{settings.told('tls_cert')}: callers will refuse it: {reason}"
    if settings.tls_client_ca:
        yield from _check_client_ca(settings)


def expiries(settings: Settings) -> dict[str, float]:
    """Return the Unix times at which the server's certificate and the first client CA expire.

    A certificate that clients refuse for another reason than its age is left out. Raises
    SettingsError as `check_tls` does.
    """
    found: dict[str, float] = {}
    with suppress(ssl.SSLError):
        server = server_certificate(settings, at_any_time=True)
        found["server"] = ssl.cert_time_to_seconds(str(server["notAfter"]))
    if settings.tls_client_ca and (ends := _client_ca_ends(settings)):
        found["client_ca"] = min(ends)
    return found


def _check_client_ca(settings: Settings) -> Iterator[str]:
    ends = _client_ca_ends(settings)
    if ends and all(end < time.time() for end in ends):
        yield f"{settings.told('tls_client_ca')} has expired: every client will be refused"


def _client_ca_ends(settings: Settings) -> list[int]:
    """Return the Unix time at which each client CA expires."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    try:
        context.load_verify_locations(cadata=_read(settings, "tls_client_ca", "CERTIFICATE"))
    except ssl.SSLError:
        told = settings.told("tls_client_ca")
        raise SettingsError(f"{told} holds a certificate that cannot be read") from None
    return [ssl.cert_time_to_seconds(str(known["notAfter"])) for known in context.get_ca_certs()]


def server_certificate(settings: Settings, *, at_any_time: bool = False) -> dict[str, Any]:
    """Return the server's certificate, as `SSLSocket.getpeercert` does.

    It comes from a handshake in memory with a client that trusts just this certificate. Raises
    SettingsError for a pair that cannot be used, and ssl.SSLError for one that every client
    refuses, such as one that has expired, unless it is wanted `at_any_time`.
    """
    told = settings.told
    chain = _read(settings, "tls_cert", "CERTIFICATE")
    client = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    client.check_hostname = False
    client.verify_flags |= ssl.VerifyFlags.VERIFY_X509_PARTIAL_CHAIN
    if at_any_time:
        client.verify_flags |= _NO_CHECK_TIME
    try:
        first = next(block[0] for block in _BLOCK.finditer(chain) if "CERTIFICATE" in block[1])
        client.load_verify_locations(cadata=ssl.PEM_cert_to_DER_cert(first))
    except (ssl.SSLError, ValueError):
        raise SettingsError(f"{told('tls_cert')} holds a certificate that cannot be read") from None
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    try:
        server.load_cert_chain(settings.tls_cert, settings.tls_key, password="")
    except (ssl.SSLError, OSError) as error:
        reason = getattr(error, "reason", None) or ""
        if "MISMATCH" in reason:
            raise SettingsError(
                f"{told('tls_key')} is not the key of {told('tls_cert')}, whose first certificate"
                " must be the server's own"
            ) from None
        blamed = "tls_cert" if "CERT" in reason or reason.startswith("EE_") else "tls_key"
        raise SettingsError(f"{told(blamed)} cannot be used: {reason or error}") from None
    return _handshake(client, server)


def _handshake(client: ssl.SSLContext, server: ssl.SSLContext) -> dict[str, Any]:
    up, down = ssl.MemoryBIO(), ssl.MemoryBIO()
    ends = [client.wrap_bio(down, up), server.wrap_bio(up, down, server_side=True)]
    for _ in range(4):  # the client's second step verifies
        for end in ends:
            try:
                end.do_handshake()
            except ssl.SSLWantReadError:
                continue
    return dict(ends[0].getpeercert() or {})


def _read(settings: Settings, name: str, kind: str) -> str:
    """Return the content of a PEM file that holds a block of this kind."""
    told, path = settings.told(name), getattr(settings, name)
    try:
        content = Path(path).read_bytes()
    except OSError as error:
        raise SettingsError(f"{told}: {error.strerror}") from None
    if content.startswith(b"\x30"):  # ASN.1
        command = "x509" if kind == "CERTIFICATE" else "pkey"
        raise SettingsError(
            f"{told} is a DER file: write it as PEM, `openssl {command} -inform der -in {path}`"
        )
    text = content.decode("ascii", "ignore")  # text between the blocks may be anything
    kinds = [block[1] for block in _BLOCK.finditer(text)]
    if not any(found.endswith(kind) for found in kinds):
        held = f"it holds a {kinds[0]}" if kinds else "it is not a PEM file"
        raise SettingsError(f"{told} holds no {kind}: {held if content else 'it is empty'}")
    return text
