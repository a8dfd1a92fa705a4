"""Certificates: the server's TLS credentials, from files that are read again when they change."""

from typing import Any, cast

import grpc
import structlog

from cxr_server.access import WatchedFiles
from cxr_server.settings import Settings, SettingsError
from cxr_server.tls import check_tls, expiries

log = structlog.get_logger("cxr_server.rpc")


class Certificates:
    """The TLS files of the settings, which must name a certificate and a key.

    New handshakes use the files as they are then; open connections keep their certificate.
    """

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        names = [settings.tls_key, settings.tls_cert, settings.tls_client_ca]
        self._files = WatchedFiles(*filter(None, names))
        self._valid = self._files.contents
        self.expiries = expiries(settings)
        """When each certificate in use expires, see `tls.expiries`."""
        self._version = 0  # of `_valid`

    @property
    def reload_failures(self) -> int:
        """How often the files were missing or not valid when they were read again."""
        return self._files.failures

    def credentials(self) -> grpc.ServerCredentials:
        """Return credentials for one server to listen with: no second one can use them."""
        used = self._version

        def fetch() -> grpc.ServerCertificateConfiguration | None:
            """Return what the next handshake uses, None for no change. For gRPC's threads."""
            nonlocal used
            self.reload()
            if used == self._version:
                return None
            used = self._version
            return self._configuration()

        return grpc.dynamic_ssl_server_credentials(
            self._configuration(),
            cast(Any, fetch),  # gRPC accepts None for "no change"; its type does not say so
            require_client_authentication=len(self._valid) > 2,
        )

    def reload(self, *, now: bool = False) -> None:
        """Read the files again if they changed, or in any case `now`."""
        if not self._files.changed(now=now):
            return
        try:
            for warning in check_tls(self._settings):
                log.warning("doubtful setting", detail=warning)
            self.expiries = expiries(self._settings)
        except (SettingsError, OSError) as error:  # or one file of two is new so far
            self._files.failures += 1
            log.warning("certificates kept: the new files are not valid", error=str(error))
            return
        log.info("certificates reloaded")
        self._valid = self._files.contents
        self._version += 1

    def _configuration(self) -> grpc.ServerCertificateConfiguration:
        key, chain, *client_ca = self._valid
        return grpc.ssl_server_certificate_configuration(
            [(key, chain)], root_certificates=client_ca[0] if client_ca else None
        )
