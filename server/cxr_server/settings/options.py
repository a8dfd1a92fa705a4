"""Options: every setting in one frozen class, with its help text, group and limits.

`--help`, the README's table (a test compares them), the environment and the checks all follow
from it.
"""

from collections.abc import Mapping
from dataclasses import Field, dataclass, field, fields
from typing import Any

from cxr_server.errors import OperatorError
from cxr_server.inference.engines.registry import PRECISIONS, engine_choices

DEFAULT_PORT = 50051
MIB = 2**20
GROUPS = ("model", "network", "security", "limits", "logs")
"""The groups of `--help`, in order."""


class SettingsError(OperatorError):
    """Settings that cannot work. The message names each one as it was given, and what to do."""

    exit_status = 2


def _option(default: Any, help_text: str, group: str = "limits", **extra: Any) -> Any:
    return field(default=default, metadata={"help": help_text, "group": group, **extra})


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """Every setting of `cxr-server serve`. `sources` checks the values that it reads."""

    model: tuple[str, ...] = _option(
        ("phantom",),
        "bundle to serve, a name or a folder; NAME=BUNDLE serves it under another name; repeat the"
        " flag, or use commas in the variable, to serve several: the first is the default",
        "model",
        metavar="[NAME=]BUNDLE",
    )
    listen: str = _option(
        f"127.0.0.1:{DEFAULT_PORT}",
        "address to serve on, or unix:PATH; port 0 picks one",
        "network",
        metavar="HOST:PORT",
    )
    engine: str = _option("auto", "inference engine", "model", choices=engine_choices)
    device: str = _option(
        "", "device of the engine: CPU, cuda:0, ... (empty: automatic)", "model", metavar="DEVICE"
    )
    precision: str = _option(
        "float32",
        "precision of the engine; less than float32 needs CUDA, or for bfloat16 a CPU with AMX",
        "model",
        choices=PRECISIONS,
    )
    bundle_home: str = _option(
        "", "folder of prepared bundles (empty: the user's data folder)", "model", metavar="DIR"
    )
    cache_dir: str = _option(
        "", "folder for compiled models (empty: the user's cache folder)", "model", metavar="DIR"
    )
    memory_budget_mib: int = _option(
        0,
        "memory of the server and its processes, MiB; 0: nine tenths of the container's limit, or"
        " half of the machine's memory",
        low=0,
    )
    max_request_mib: int = _option(0, "largest request, MiB; 0: 32, or less", low=0, high=512)
    min_side_px: int = _option(32, "shortest side of an image, pixels", low=1, high=4096)
    max_side_px: int = _option(16_384, "longest side of an image, pixels", low=32, high=65_535)
    max_pixels: int = _option(
        0, "most pixels of an image; 0: 50 million, or less", low=0, high=500_000_000
    )
    max_in_flight: int = _option(
        0,
        "most calls in flight; 0: what keeps the engine busy, 64 or more",
        low=0,
        high=65_536,
    )
    max_in_flight_mib: int = _option(
        0, "most request bytes in flight, MiB; 0: 256, or less", low=0, high=65_536
    )
    upload_timeout_s: float = _option(30.0, "longest time to receive a request, seconds", low=0.1)
    max_call_s: float = _option(300.0, "longest call, sending included, seconds", low=1.0)
    cache_entries: int = _option(1024, "radiographs whose evidence is kept; 0: none", low=0)
    decode_threads: int = _option(0, "images decoded at once; 0: one per core", low=0, high=256)
    decode_processes: int = _option(
        -1,
        "processes that decode, one image each; 0: decode in threads, except JPEG 2000; -1: one per"
        " decode thread, if memory allows",
        low=-1,
        high=256,
    )
    engine_threads: int = _option(0, "cores the CPU engine uses; 0: all", "model", low=0, high=1024)
    reflection: bool = _option(True, "serve gRPC reflection", "network")
    open_inference: bool = _option(
        False, "also serve the Open Inference Protocol, for clients of Triton and KServe", "network"
    )
    drain_pause_s: float = _option(0.0, "lame-duck time after SIGTERM, seconds", "network", low=0.0)
    grace_s: float = _option(
        20.0, "time for calls in flight to finish at shutdown, seconds", "network", low=0.0
    )
    metrics_listen: str = _option(
        "", "address of the Prometheus endpoint (empty: none)", "network", metavar="HOST:PORT"
    )
    health_listen: str = _option(
        "",
        "address of a plaintext health-only port, or unix:PATH (empty: none)",
        "network",
        metavar="HOST:PORT",
    )
    admin_listen: str = _option(
        "",
        "address of the operator's port, which swaps models, or unix:PATH (empty: none)",
        "network",
        metavar="HOST:PORT",
    )
    tls_cert: str = _option("", "file of the server's certificate chain, PEM", "security")
    tls_key: str = _option("", "file of the server's private key, PEM", "security")
    tls_client_ca: str = _option(
        "", "file of the CAs of client certificates, PEM; requires mutual TLS", "security"
    )
    tokens_file: str = _option("", "file with hashes of the accepted bearer tokens", "security")
    admin_tokens_file: str = _option(
        "", "file with hashes of the bearer tokens that may swap models", "security"
    )
    audit_file: str = _option(
        "", "audit log: a line for each call, without results (empty: none)", "logs"
    )
    audit_key_file: str = _option(
        "", "file with the key of the audit log's image hashes, 32 bytes or more", "logs"
    )
    insecure: bool = _option(False, "allow plaintext on addresses other than loopback", "security")
    log_format: str = _option("auto", "log lines", "logs", choices=("auto", "console", "json"))
    log_level: str = _option(
        "info", "lowest level logged", "logs", choices=("debug", "info", "warning", "error")
    )
    given: Mapping[str, str] = field(default_factory=dict, repr=False, compare=False)
    """Settings as the operator wrote them: `max_pixels` -> "--max-pixels 9"."""

    def told(self, name: str) -> str:
        """Return a setting as the operator wrote it, or its flag with the default."""
        if name in self.given:
            return self.given[name]
        (default,) = (option.default for option in options() if option.name == name)
        value = getattr(self, name)
        return written_as_flag(name, value) + (" (the default)" if value == default else "")


def options() -> tuple[Field[Any], ...]:
    """Return the settings with a flag and an environment variable."""
    return tuple(option for option in fields(Settings) if "help" in option.metadata)


def flag_name(name: str) -> str:
    """Name of the flag of a setting."""
    return "--" + name.replace("_", "-")


def env_name(name: str) -> str:
    """Name of the environment variable of a setting."""
    return "CXR_" + name.upper()


def written_as_flag(name: str, value: object) -> str:
    """Return a setting as it is written on a command line."""
    flag = flag_name(name)
    if isinstance(value, (tuple, list)):
        return " ".join(f"{flag} {each}" for each in value)
    if isinstance(value, bool):
        return flag if value else flag.replace("--", "--no-", 1)
    return f"{flag} {value}"


def choices_of(setting: Field[Any]) -> tuple[str, ...] | None:
    """Return the values that a setting accepts, or None if it is not a choice."""
    choices = setting.metadata.get("choices")
    return tuple(choices()) if callable(choices) else choices
