"""TLS: server credentials that follow their files."""

from typing import Any, cast

import grpc
import structlog

from cxr_server.access import WatchedFiles
from cxr_server.settings import Settings

log = structlog.get_logger("cxr_server.rpc.tls")


def server_credentials(settings: Settings) -> grpc.ServerCredentials | None:
    """Return TLS credentials, or None for plaintext.

    New handshakes use the files as they are then; open connections keep their certificate.
    """
    if not settings.tls_cert:
        return None
    names = [settings.tls_key, settings.tls_cert, settings.tls_client_ca]
    files = WatchedFiles(*filter(None, names))

    def configuration() -> grpc.ServerCertificateConfiguration:
        key, chain, *client_ca = files.contents
        return grpc.ssl_server_certificate_configuration(
            [(key, chain)], root_certificates=client_ca[0] if client_ca else None
        )

    def fetch() -> grpc.ServerCertificateConfiguration | None:
        if not files.changed():
            return None
        log.info("certificates reloaded")
        return configuration()

    return grpc.dynamic_ssl_server_credentials(
        configuration(),
        cast(Any, fetch),  # gRPC accepts None for "no change"; its type does not say so
        require_client_authentication=bool(settings.tls_client_ca),
    )
