"""What a replica on Ray Serve needs, and what Ray cannot keep, is said before anything starts."""

from dataclasses import replace
from typing import Any

import pytest

from cxr_server.ray_app import build, check
from cxr_server.settings import Settings, SettingsError

KEPT = Settings(engine_threads=2, memory_budget_mib=1024, insecure=True)


def test_settings_that_ray_can_keep_pass() -> None:
    check(KEPT)
    check(replace(KEPT, device="cuda", metrics_listen="0.0.0.0:0", tokens_file="tokens"))


@pytest.mark.parametrize(
    ("changed", "told"),
    [
        ({"engine_threads": 0}, r"--engine-threads 0 .*: .* how many cores"),
        ({"memory_budget_mib": 0}, "how much memory"),
        ({"insecure": False}, r"--no-insecure .*: Ray listens in plaintext"),
        ({"tls_cert": "c", "tls_key": "k"}, "end TLS in front"),
        ({"tls_cert": "c", "tls_key": "k", "tls_client_ca": "a"}, "end TLS in front"),
        ({"listen": "127.0.0.1:1"}, "see grpc_options"),
        ({"health_listen": "127.0.0.1:1"}, "Ray's port answers"),
        ({"admin_listen": "127.0.0.1:1"}, "one replica alone"),
        ({"upload_timeout_s": 3.0}, "Ray receives the requests"),
        ({"reflection": False}, "Ray always serves it"),
        ({"open_inference": True}, "the contract alone"),
        ({"drain_pause_s": 1.0}, "before it stops it"),
        ({"audit_file": "a"}, "after a rotation"),
        ({"metrics_listen": "127.0.0.1:9464"}, "give port 0"),
        ({"device": "cuda:1"}, "give cuda"),
        ({"engine_threads": -1}, "is not from 0"),
    ],
    ids=str,
)
def test_others_are_refused_with_the_reason(changed: dict[str, Any], told: str) -> None:
    with pytest.raises(SettingsError, match=told):
        check(replace(KEPT, **changed))


def test_a_configuration_file_is_read_like_the_environment() -> None:
    with pytest.raises(SettingsError, match="no such setting: engine_thread"):
        build({"engine_thread": 2})
    with pytest.raises(SettingsError, match="--max-in-flight many is not a whole number"):
        build({"max_in_flight": "many"})
    with pytest.raises(SettingsError, match=r"\(the default\): .* how many cores"):
        build({"engine_threads": None})
