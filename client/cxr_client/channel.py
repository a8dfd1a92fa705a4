"""Channel: the settings of a client -> a gRPC channel. Next: connection."""

import json
from types import ModuleType
from typing import Any

import grpc

from cxr_client.config import RetryConfig, Settings, is_loopback

_MAX_RESPONSE_BYTES = 256 * 2**20
_GRPC_MAX_ATTEMPTS = 5  # gRPC clamps larger values and logs an error.


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
        ("grpc.max_receive_message_length", _MAX_RESPONSE_BYTES),
        ("grpc.service_config", json.dumps(_service_config(settings.retry))),
        ("grpc.enable_retries", int(settings.retry.max_attempts > 1)),
        # Above this buffer, 256 KiB by default, gRPC silently stops retrying a call. The margin
        # covers the framing of a message.
        ("grpc.per_rpc_retry_buffer_size", settings.max_request_bytes + 2**16),
        # Keepalive detects a black-holed connection after 40 s.
        ("grpc.keepalive_time_ms", 30_000),
        ("grpc.keepalive_timeout_ms", 10_000),
        # By default, a channel waits up to two minutes before it reconnects.
        ("grpc.initial_reconnect_backoff_ms", 100),
        ("grpc.min_reconnect_backoff_ms", 2_000),
        ("grpc.max_reconnect_backoff_ms", 2_000),
        # By default, http_proxy applies to loopback as well.
        ("grpc.enable_http_proxy", int(not is_loopback(settings.server))),
    ]
    if settings.tls is not None and settings.tls.server_name is not None:
        arguments.append(("grpc.ssl_target_name_override", settings.tls.server_name))
    return arguments


def _service_config(retry: RetryConfig) -> dict[str, object]:
    config: dict[str, object] = {"loadBalancingConfig": [{"round_robin": {}}]}
    if retry.max_attempts > 1:
        config["methodConfig"] = [
            {
                "name": [{"service": "cxr.v1.ChestXrayService"}],
                "retryPolicy": {
                    "maxAttempts": min(retry.max_attempts, _GRPC_MAX_ATTEMPTS),
                    "initialBackoff": _duration(retry.initial_backoff_s),
                    "backoffMultiplier": retry.backoff_multiplier,
                    "maxBackoff": _duration(retry.max_backoff_s),
                    # A gRPC server that stops ends unprocessed calls as CANCELLED (ADR 12).
                    # RESOURCE_EXHAUSTED is not listed: gRPC also uses it for "message too large".
                    "retryableStatusCodes": ["UNAVAILABLE", "CANCELLED"],
                },
            }
        ]
        # Retries stop while less than half of the tokens are left: fifty concurrent callers
        # survive a restart, and a dead server is not flooded.
        config["retryThrottling"] = {"maxTokens": 500, "tokenRatio": 1}
    return config


def _duration(seconds: float) -> str:
    """Return a `google.protobuf.Duration` in JSON."""
    return f"{seconds:.9f}s"
