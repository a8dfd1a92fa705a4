"""Server: listen on the service port and on the plaintext health-only port; TLS."""

import asyncio
import logging
from dataclasses import dataclass, field
from functools import partial

import grpc
import structlog
from grpc_health.v1 import health_pb2_grpc

from cxr.v1 import admin_pb2_grpc
from cxr_server.access import Access
from cxr_server.admission import Admission
from cxr_server.audit import Audit
from cxr_server.lifecycle import Lifecycle
from cxr_server.observability.ended_calls import EndedCalls
from cxr_server.observability.metrics import Metrics
from cxr_server.observability.tracing import Recorder
from cxr_server.rpc import health, reflection, servicer
from cxr_server.rpc.admin import AdminServicer
from cxr_server.rpc.certificates import Certificates
from cxr_server.rpc.health import HealthServicer
from cxr_server.rpc.interceptors.admission import admitted
from cxr_server.rpc.interceptors.audit import audited
from cxr_server.rpc.interceptors.auth import authenticated
from cxr_server.rpc.interceptors.chain import Chain, Step
from cxr_server.rpc.interceptors.context import observed
from cxr_server.rpc.interceptors.longest_call import limited
from cxr_server.rpc.methods import Methods
from cxr_server.rpc.open_inference import open_inference_pb2_grpc as oip_grpc
from cxr_server.rpc.open_inference.servicer import MODEL_INFER, PROBES, OpenInferenceServicer
from cxr_server.rpc.open_inference.servicer import SERVICE as OPEN_INFERENCE
from cxr_server.service import InferenceService
from cxr_server.settings import Address, Settings

log = structlog.get_logger("cxr_server.rpc")
FLOW_CONTROL = (("grpc.http2.lookahead_bytes", 2 * 2**20), ("grpc.http2.bdp_probe", 0))
"""gRPC takes in that much of a request before anybody reads it, also of one that is refused. By
default it measures the connection, and takes several times as much beside the memory budget."""
_OPEN = frozenset({health.SERVICE})
"""Services that need no token and whose calls are not logged: probes call them all the time."""
_QUIET = frozenset({servicer.HEALTH, *PROBES, *reflection.METHODS})
"""Methods whose successful calls are logged at the level debug: probes and tools call them."""


def _is_news(record: logging.LogRecord) -> bool:
    """Drop gRPC's tracebacks of answers that could not be sent: their callers have gone."""
    return not record.getMessage().startswith("ExecuteBatchError raised in core")


logging.getLogger("grpc._cython.cygrpc").addFilter(_is_news)


@dataclass(slots=True)
class Server:
    """Serves the contract, `grpc.health.v1`, reflection and the Open Inference Protocol."""

    settings: Settings
    service: InferenceService
    lifecycle: Lifecycle
    admission: Admission
    metrics: Metrics
    audit: Audit | None = None
    tracing: Recorder | None = None
    _servers: list[grpc.aio.Server] = field(default_factory=list, init=False)
    _access: Access | None = field(default=None, init=False)
    _admin_access: Access | None = field(default=None, init=False)
    _certificates: Certificates | None = field(default=None, init=False)
    _ended: EndedCalls = field(init=False)

    def __post_init__(self) -> None:
        self._ended = EndedCalls(self.metrics, _QUIET, self.tracing)

    async def start(self) -> int:
        """Listen, and return the port. Raises OSError, and SettingsError for the tokens file."""
        settings, health_servicer = self.settings, HealthServicer(self.lifecycle, servicer.SERVICE)
        services = [servicer.SERVICE, health.SERVICE]
        self._certificates = Certificates(settings) if settings.tls_cert else None
        server = grpc.aio.server(options=_options(self.service.memory.max_request_bytes))
        methods = Methods(server, self.chain(settings.upload_timeout_s))
        methods.add(servicer.SERVICE, servicer.ChestXrayServicer(self.service).handlers())
        health_pb2_grpc.add_HealthServicer_to_server(health_servicer, methods)
        if settings.open_inference:
            open_inference = OpenInferenceServicer(self.service)
            oip_grpc.add_GRPCInferenceServiceServicer_to_server(open_inference, methods)  # type: ignore[no-untyped-call]
            services.append(OPEN_INFERENCE)
        if settings.reflection:
            reflection.enable(methods, self.lifecycle, *services)
        credentials = self._certificates.credentials() if self._certificates else None
        port = _bind(server, settings.listen, credentials)
        self._servers.append(server)
        if settings.health_listen:
            probes = grpc.aio.server(options=(("grpc.so_reuseport", 0),))
            health_pb2_grpc.add_HealthServicer_to_server(health_servicer, probes)
            _bind(probes, settings.health_listen, None)
            self._servers.append(probes)
        if settings.admin_listen:
            self._servers.append(self._admin_server())
        for each in self._servers:
            await each.start()
        return port

    def chain(self, upload_timeout_s: float | None) -> Chain:
        """Return what runs callers' methods inside the steps.

        Raises SettingsError for the tokens file.
        """
        tokens_file = self.settings.tokens_file
        self._access = Access(tokens_file) if tokens_file else None
        return self._chain(self._access, upload_timeout_s)

    def _admin_server(self) -> grpc.aio.Server:
        """Return the server of the operator's port: in plaintext if it is on loopback."""
        settings = self.settings
        if settings.admin_tokens_file:
            self._admin_access = Access(settings.admin_tokens_file)
        server = grpc.aio.server(options=(("grpc.so_reuseport", 0),))
        methods = Methods(server, self._chain(self._admin_access, settings.upload_timeout_s))
        servicer = AdminServicer(self.service.models, settings.max_call_s)
        admin_pb2_grpc.add_AdminServiceServicer_to_server(servicer, methods)  # type: ignore[no-untyped-call]
        credentials = None
        if self._certificates and not Address.parse(settings.admin_listen).is_loopback:
            credentials = self._certificates.credentials()
        _bind(server, settings.admin_listen, credentials)
        return server

    def _chain(self, access: Access | None, upload_timeout_s: float | None) -> Chain:
        """Return what runs every method of a port inside the steps."""
        around = steps(
            self.settings,
            self.lifecycle,
            self.admission,
            self.metrics,
            access,
            ended=self._ended,
        )
        if self.audit:
            record = partial(audited, audit=self.audit, unobserved=_OPEN, quiet=_QUIET)
            around.insert(0, record)
        with_certificates = bool(self.settings.tls_client_ca)
        return Chain(around, upload_timeout_s, client_certificates=with_certificates)

    def reload(self) -> None:
        """Read tokens and certificates again, even if their files seem unchanged.

        The audit file is opened again, for what rotates it.
        """
        files = {
            "tokens": self._access,
            "admin tokens": self._admin_access,
            "certificates": self._certificates,
        }
        found = {name: each for name, each in files.items() if each}
        log.info("reload requested", of=list(found))
        for each in found.values():
            each.reload(now=True)
        if self.audit:
            self.audit.reopen()

    @property
    def reload_failures(self) -> dict[str, int]:
        """How often files could not be read again, and the audit file not be opened again."""
        files = {
            "tokens": self._access,
            "admin tokens": self._admin_access,
            "certificates": self._certificates,
        }
        failures = {name: each.reload_failures if each else 0 for name, each in files.items()}
        return failures | {"audit file": self.audit.reopen_failures if self.audit else 0}

    @property
    def certificate_expiries(self) -> dict[str, float]:
        """The Unix time at which each certificate in use expires."""
        return self._certificates.expiries if self._certificates else {}

    async def stop(self, grace_s: float) -> None:
        """Close the ports; calls that are still in flight after `grace_s` are cancelled."""
        await asyncio.gather(*(server.stop(grace_s) for server in self._servers))
        self.tell_ended()

    def tell_ended(self) -> None:
        """Log the calls that have ended, since the process is about to."""
        self._ended.flush()


def steps(
    settings: Settings,
    lifecycle: Lifecycle,
    admission: Admission,
    metrics: Metrics,
    access: Access | None = None,
    bounded_methods: frozenset[str] = servicer.BOUNDED_METHODS | {MODEL_INFER},
    ended: EndedCalls | None = None,
) -> list[Step]:
    """Return the steps around every method, outermost first."""
    ended = ended or EndedCalls(metrics, _QUIET)
    observe = partial(observed, metrics=metrics, ended=ended, unobserved=_OPEN)
    around: list[Step] = [observe]
    if access:
        around.append(partial(authenticated, access=access, open_services=_OPEN))
    longest = partial(limited, max_call_s=settings.max_call_s, bounded=bounded_methods)
    bounds = partial(admitted, admission=admission, lifecycle=lifecycle, bounded=bounded_methods)
    return [*around, bounds, longest]


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
        *FLOW_CONTROL,
        # Otherwise two servers on one port would silently share its connections.
        ("grpc.so_reuseport", 0),
        # Allow clients to ping idle connections every 10 s.
        ("grpc.http2.min_ping_interval_without_data_ms", 10_000),
        ("grpc.keepalive_permit_without_calls", 1),
        # Connections end now and then, so that clients see new replicas and certificates.
        ("grpc.max_connection_age_ms", 30 * 60_000),
        ("grpc.max_connection_age_grace_ms", 60_000),
    ]
