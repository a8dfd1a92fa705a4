"""Server: listen on the service port and on the plaintext health-only port; TLS."""

import asyncio
import logging
from dataclasses import dataclass, field
from functools import partial
from typing import Any, cast

import grpc
import structlog
from grpc_health.v1 import health_pb2_grpc

from cxr.v1 import chest_xray_pb2_grpc as pb_grpc
from cxr_server.access import Access, WatchedFiles
from cxr_server.admission import Admission
from cxr_server.lifecycle import Lifecycle
from cxr_server.observability.metrics import Metrics
from cxr_server.rpc import health, reflection, servicer
from cxr_server.rpc.health import HealthServicer
from cxr_server.rpc.interceptors.admission import admitted
from cxr_server.rpc.interceptors.auth import authenticated
from cxr_server.rpc.interceptors.chain import Chain, Step
from cxr_server.rpc.interceptors.context import observed
from cxr_server.rpc.interceptors.longest_call import limited
from cxr_server.service import InferenceService
from cxr_server.settings import Address, Settings, SettingsError
from cxr_server.tls import check_tls

log = structlog.get_logger("cxr_server.rpc")
_OPEN = frozenset({health.SERVICE})
"""Services that need no token and whose calls are not logged: probes call them all the time."""


def _is_news(record: logging.LogRecord) -> bool:
    """Drop gRPC's tracebacks of answers that could not be sent: their callers have gone."""
    return not record.getMessage().startswith("ExecuteBatchError raised in core")


logging.getLogger("grpc._cython.cygrpc").addFilter(_is_news)


@dataclass(slots=True)
class Server:
    """Serves the contract, `grpc.health.v1` and reflection."""

    settings: Settings
    service: InferenceService
    lifecycle: Lifecycle
    admission: Admission
    metrics: Metrics
    _servers: list[grpc.aio.Server] = field(default_factory=list, init=False)

    async def start(self) -> int:
        """Listen, and return the port. Raises OSError, and SettingsError for the tokens file."""
        settings, health_servicer = self.settings, HealthServicer(self.lifecycle, servicer.SERVICE)
        around = steps(settings, self.lifecycle, self.admission, self.metrics)
        chain = Chain(around, settings.upload_timeout_s)
        server = grpc.aio.server(
            interceptors=[chain], options=_options(self.service.memory.max_request_bytes)
        )
        chest_xray = servicer.ChestXrayServicer(self.service, serialized=True)
        pb_grpc.add_ChestXrayServiceServicer_to_server(chest_xray, server)  # type: ignore[no-untyped-call]
        health_pb2_grpc.add_HealthServicer_to_server(health_servicer, server)
        if settings.reflection:
            reflection.enable(server, servicer.SERVICE, health.SERVICE)
        port = _bind(server, settings.listen, _credentials(settings))
        self._servers.append(server)
        if settings.health_listen:
            probes = grpc.aio.server(options=(("grpc.so_reuseport", 0),))
            health_pb2_grpc.add_HealthServicer_to_server(health_servicer, probes)
            _bind(probes, settings.health_listen, None)
            self._servers.append(probes)
        for each in self._servers:
            await each.start()
        return port

    async def stop(self, grace_s: float) -> None:
        """Close the ports; calls that are still in flight after `grace_s` are cancelled."""
        await asyncio.gather(*(server.stop(grace_s) for server in self._servers))


def steps(
    settings: Settings,
    lifecycle: Lifecycle,
    admission: Admission,
    metrics: Metrics,
    bounded_methods: frozenset[str] = servicer.BOUNDED_METHODS,
) -> list[Step]:
    """Return the steps around every method, outermost first. Raises SettingsError."""
    around: list[Step] = [partial(observed, metrics=metrics, unobserved=_OPEN)]
    if settings.tokens_file:
        access = Access(settings.tokens_file)
        around.append(partial(authenticated, access=access, open_services=_OPEN))
    longest = partial(limited, max_call_s=settings.max_call_s, bounded=bounded_methods)
    bounds = partial(admitted, admission=admission, lifecycle=lifecycle, bounded=bounded_methods)
    return [*around, bounds, longest]


def _credentials(settings: Settings) -> grpc.ServerCredentials | None:
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
        try:
            for warning in check_tls(settings):
                log.warning("doubtful setting", detail=warning)
        except (SettingsError, OSError) as error:  # or one file of two is new so far
            log.warning("certificates kept: the new files are not valid", error=str(error))
            return None
        log.info("certificates reloaded")
        return configuration()

    return grpc.dynamic_ssl_server_credentials(
        configuration(),
        cast(Any, fetch),  # gRPC accepts None for "no change"; its type does not say so
        require_client_authentication=bool(settings.tls_client_ca),
    )


def _bind(server: grpc.aio.Server, text: str, credentials: grpc.ServerCredentials | None) -> int:
    address = Address.parse(text)
    try:
        if credentials:
            return server.add_secure_port(str(address), credentials)
        return server.add_insecure_port(str(address))
    except RuntimeError:
        reason = address.problem() or "gRPC names no reason"
        raise OSError(f"cannot listen on {address}: {reason}") from None


def _options(max_request_bytes: int) -> list[tuple[str, int]]:
    return [
        ("grpc.max_receive_message_length", max_request_bytes),
        ("grpc.max_send_message_length", -1),
        # Otherwise two servers on one port would silently share its connections.
        ("grpc.so_reuseport", 0),
        # Allow clients to ping idle connections every 10 s.
        ("grpc.http2.min_ping_interval_without_data_ms", 10_000),
        ("grpc.keepalive_permit_without_calls", 1),
        # Connections end now and then, so that clients see new replicas and certificates.
        ("grpc.max_connection_age_ms", 30 * 60_000),
        ("grpc.max_connection_age_grace_ms", 60_000),
    ]
