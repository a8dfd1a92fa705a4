"""Probe: asks a server with given settings, on this machine, for its standard health."""

import re
import ssl
from dataclasses import replace
from ipaddress import ip_address
from pathlib import Path

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc

from cxr_server.errors import OperatorError
from cxr_server.settings import Address, Settings, SettingsError
from cxr_server.settings.checks import check_together
from cxr_server.tls import server_certificate


class Unhealthy(OperatorError):
    """The server is not serving, or does not answer. The message says which."""


def check_health(settings: Settings, timeout_s: float) -> str:
    """Return where the server was found serving. Raises Unhealthy and SettingsError."""
    address, status = find_server(settings, timeout_s)
    if status != "SERVING":
        raise Unhealthy(f"{address} answers {status}")
    return f"{address} answers {status}"


def find_server(settings: Settings, timeout_s: float, service: str = "") -> tuple[Address, str]:
    """Return where a server answers, and its status. Raises Unhealthy and SettingsError.

    The health-only port is asked, if there is one, otherwise the service port. The health service
    needs no token. Under TLS the server must prove to hold the certificate of the settings.
    """
    check_together(settings)
    options: list[tuple[str, str | int]] = [("grpc.enable_http_proxy", 0)]
    credentials = None
    if settings.health_listen:
        address = _reachable(settings, "health_listen")
    else:
        address = _reachable(settings, "listen")
        if settings.tls_cert:
            credentials, name = _trusting_own_certificate(settings)
            options.append(("grpc.ssl_target_name_override", name))
    channel = (
        grpc.secure_channel(str(address), credentials, options)
        if credentials
        else grpc.insecure_channel(str(address), options)
    )
    with channel:
        check = health_pb2_grpc.HealthStub(channel).Check
        try:
            answer = check(health_pb2.HealthCheckRequest(service=service), timeout=timeout_s)
        except grpc.RpcError as error:
            details = error.details() or ""
            # What a server with TLS does to a plaintext connection.
            if credentials is None and re.search("closed|reset", details):
                details += " (it may require TLS: give --tls-cert and --tls-key as to serve)"
            raise Unhealthy(f"{address} does not answer: {details}") from None
    return address, health_pb2.HealthCheckResponse.ServingStatus.Name(answer.status)


def _reachable(settings: Settings, name: str) -> Address:
    try:
        address = Address.parse(getattr(settings, name))
    except ValueError as error:
        raise SettingsError(f"{settings.told(name)}: {error}") from None
    if not (address.port or address.path):
        raise SettingsError(f"{settings.told(name)}: which port was picked is not known here")
    try:
        everywhere = ip_address(address.host).is_unspecified
    except ValueError:
        everywhere = False
    return replace(address, host="127.0.0.1") if everywhere else address


def _trusting_own_certificate(settings: Settings) -> tuple[grpc.ChannelCredentials, str]:
    """Return credentials that trust the server's certificate alone, and a name that it is for."""
    if settings.tls_client_ca:
        raise SettingsError(
            f"{settings.told('tls_client_ca')}: only clients with a certificate can ask this port;"
            " give serve and health a --health-listen 127.0.0.1:50052"
        )
    try:
        certificate = server_certificate(settings)
    except ssl.SSLError as error:
        reason = getattr(error, "verify_message", None) or error.reason
        raise Unhealthy(f"{settings.told('tls_cert')}: callers refuse it: {reason}") from None
    names = [
        str(value)
        for kind, value in certificate.get("subjectAltName", ())
        if kind in ("DNS", "IP Address")
    ]
    if not names:
        raise Unhealthy(f"{settings.told('tls_cert')}: callers refuse it: it names no host")
    return grpc.ssl_channel_credentials(Path(settings.tls_cert).read_bytes()), names[0]
