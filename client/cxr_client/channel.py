"""Channel: the settings of a client -> a gRPC channel. Next: connection."""

import contextlib
import json
import threading
import time
from types import ModuleType
from typing import Any

import grpc

from cxr.v1 import chest_xray_pb2 as pb
from cxr_client.address import is_loopback
from cxr_client.config import BalancingConfig, Settings

READY = grpc.ChannelConnectivity.READY
UNSETTLED = (grpc.ChannelConnectivity.IDLE, grpc.ChannelConnectivity.CONNECTING)
"""The states of a channel that has neither connected nor failed to."""

_WATCH_S = 0.1
_SERVICE = pb.DESCRIPTOR.services_by_name["ChestXrayService"].full_name


def open_channel(
    grpc_or_aio: ModuleType, settings: Settings, credentials: grpc.ChannelCredentials | None
) -> Any:
    """Return a channel of `grpc` or `grpc.aio`, plaintext where `credentials` is None."""
    arguments = channel_arguments(settings)
    if credentials is None:
        return grpc_or_aio.insecure_channel(settings.server, arguments)
    return grpc_or_aio.secure_channel(settings.server, credentials, arguments)


def channel_arguments(settings: Settings) -> list[tuple[str, str | int]]:
    """Return the channel arguments."""
    arguments: list[tuple[str, str | int]] = [
        ("grpc.max_send_message_length", settings.max_request_bytes),
        ("grpc.max_receive_message_length", settings.max_response_bytes),
        ("grpc.service_config", service_config(settings.balancing)),
        ("grpc.enable_retries", 0),
        # Keepalive detects a black-holed connection after 40 s. After 60 s if it was in use just
        # before, by gRPC's own ping.
        ("grpc.keepalive_time_ms", 30_000),
        ("grpc.keepalive_timeout_ms", 10_000),
        # By default, a channel waits up to two minutes before it reconnects.
        ("grpc.initial_reconnect_backoff_ms", 100),
        ("grpc.min_reconnect_backoff_ms", 2_000),
        ("grpc.max_reconnect_backoff_ms", 2_000),
        # By default, a name is resolved every 30 s at most: a server with a new address would not
        # be found for so long.
        ("grpc.dns_min_time_between_resolutions_ms", 1_000),
        # By default, http_proxy applies to loopback as well.
        ("grpc.enable_http_proxy", int(not is_loopback(settings.server))),
    ]
    if settings.tls is not None and settings.tls.server_name is not None:
        arguments.append(("grpc.ssl_target_name_override", settings.tls.server_name))
    return arguments


def service_config(balancing: BalancingConfig) -> str:
    """Return the service config, JSON as of https://github.com/grpc/grpc/blob/master/doc/service_config.md.

    It has no "retryPolicy": `retries` decides, because retries inside gRPC hide the cause of a
    failure.
    """
    config: dict[str, Any] = {"loadBalancingConfig": [{balancing.policy: {}}]}
    if balancing.health_check:
        config["healthCheckConfig"] = {"serviceName": _SERVICE}
    return json.dumps(config)


def connect(channel: grpc.Channel, seconds: float) -> bool | None:
    """Connect a blocking channel; return whether it is connected, None where it takes longer.

    grpc has no public function for this: the thread of `Channel.subscribe` delays `close`, and may
    fail after it. The thread here has ended when this returns.
    """
    given_up, settled = threading.Event(), threading.Event()
    states: list[int] = []

    def watch() -> None:
        # An AttributeError would be another release of grpc, a ValueError is a closed channel.
        with contextlib.suppress(AttributeError, ValueError):
            core = channel._channel  # type: ignore[attr-defined]
            while not given_up.is_set():
                states.append(core.check_connectivity_state(True))
                if states[-1] not in [state.value[0] for state in UNSETTLED]:
                    break
                # Older releases of grpc connect only while something waits like this.
                core.watch_connectivity_state(states[-1], time.time() + _WATCH_S)
        settled.set()

    thread = threading.Thread(target=watch, daemon=True)
    thread.start()
    try:
        in_time = settled.wait(seconds)
    finally:
        given_up.set()
        thread.join()
    return states[-1:] == [READY.value[0]] if in_time else None
