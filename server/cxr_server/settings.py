"""Settings: flag > environment `CXR_*` > default, checked before anything starts.

One frozen class holds every option with its help text, so that `--help`, the README's table
(a test compares them) and the code cannot drift apart.
"""

import argparse
import ipaddress
import os
from collections.abc import Mapping, Sequence
from configparser import ConfigParser
from dataclasses import Field, dataclass, field, fields
from pathlib import Path
from typing import Any

from cxr_server.errors import OperatorError
from cxr_server.inference.engines.registry import engine_choices

DEFAULT_PORT = 50051
METAVARS = {"model": "NAME", "device": "DEVICE", "bundle_home": "DIR", "cache_dir": "DIR"} | (
    dict.fromkeys(("listen", "metrics_listen", "health_listen"), "HOST:PORT")
)
"""What `--help` shows for the values of text options that are no file."""
MIB = 2**20


class SettingsError(OperatorError):
    """A setting has a value that cannot work; the message names it."""

    exit_status = 2


def _option(default: Any, help_text: str, **extra: Any) -> Any:
    return field(default=default, metadata={"help": help_text, **extra})


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """Every setting of `cxr-server serve`. Raises SettingsError when one cannot work."""

    model: str = _option("phantom", "bundle to serve: a name or a folder")
    listen: str = _option(f"127.0.0.1:{DEFAULT_PORT}", "address to serve on; port 0 picks one")
    engine: str = _option("auto", "inference engine", choices=engine_choices)
    device: str = _option("", "device of the engine: CPU, cuda:0, ... (empty: choose)")
    bundle_home: str = _option("", "folder of prepared bundles (empty: the user's data folder)")
    cache_dir: str = _option("", "folder for compiled models (empty: the user's cache folder)")
    memory_budget_mib: int = _option(
        0, "most memory of the server, MiB; 0: nearly all that the container or machine has", low=0
    )
    max_request_mib: int = _option(0, "largest request, MiB; 0: 32, or less", low=0, high=512)
    min_side_px: int = _option(32, "shortest side of an image, pixels", low=1, high=4096)
    max_side_px: int = _option(16_384, "longest side of an image, pixels", low=32, high=65_535)
    max_pixels: int = _option(
        0, "most pixels of an image; 0: 50 million, or less", low=0, high=500_000_000
    )
    max_in_flight: int = _option(64, "most calls for the model in flight", low=1, high=65_536)
    max_in_flight_mib: int = _option(
        0, "most request bytes in flight, MiB; 0: 256, or less", low=0, high=65_536
    )
    upload_timeout_s: float = _option(30.0, "longest time to receive a request, seconds", low=0.1)
    max_call_s: float = _option(300.0, "longest call, sending included, seconds", low=1.0)
    cache_entries: int = _option(1024, "radiographs whose evidence is kept; 0: none", low=0)
    decode_threads: int = _option(0, "images decoded at once; 0: one per core", low=0, high=256)
    engine_threads: int = _option(0, "cores the CPU engine uses; 0: all", low=0, high=1024)
    reflection: bool = _option(True, "serve gRPC reflection")
    drain_pause_s: float = _option(0.0, "lame-duck time after SIGTERM, s", low=0.0)
    grace_s: float = _option(20.0, "time for calls in flight to finish at shutdown, s", low=0.0)
    metrics_listen: str = _option("", "address of the Prometheus endpoint (empty: none)")
    health_listen: str = _option("", "address of a plaintext health-only port (empty: none)")
    tls_cert: str = _option("", "file of the server's certificate chain, PEM")
    tls_key: str = _option("", "file of the server's private key, PEM")
    tls_client_ca: str = _option("", "file of the CA whose client certificates are required, PEM")
    tokens_file: str = _option("", "file of accepted bearer tokens, hashed")
    insecure: bool = _option(False, "allow plaintext on addresses other than loopback")
    log_format: str = _option("auto", "log lines", choices=("auto", "console", "json"))
    log_level: str = _option("info", "lowest level logged", choices=("debug", "info", "warning"))

    def __post_init__(self) -> None:
        for option in fields(self):
            value, meta = getattr(self, option.name), option.metadata
            if (choices := choices_of(option)) and value not in choices:
                raise SettingsError(f"{option.name} must be one of {', '.join(choices)}")
            low, high = meta.get("low"), meta.get("high", float("inf"))
            if low is not None and not low <= value <= high:
                limit = f"from {low} to {high}" if "high" in meta else f"at least {low}"
                raise SettingsError(f"{option.name} must be {limit}, not {value}")
        for name in ("listen", "metrics_listen", "health_listen"):
            if getattr(self, name) or name == "listen":
                split_address(getattr(self, name), name)
        if bool(self.tls_cert) != bool(self.tls_key):
            raise SettingsError("tls_cert and tls_key must be given together")
        if self.tls_client_ca and not self.tls_cert:
            raise SettingsError("tls_client_ca needs tls_cert and tls_key")
        for name in ("tls_cert", "tls_key", "tls_client_ca", "tokens_file"):
            if (path := getattr(self, name)) and not Path(path).is_file():
                raise SettingsError(f"{name}: no such file: {path}")
        if not (self.tls_cert or self.insecure or is_loopback(self.listen)):
            raise SettingsError(
                f"listen: {self.listen} is not a loopback address: give tls_cert and tls_key, "
                "or --insecure where the network itself is trusted"
            )


def split_address(address: str, name: str = "address") -> tuple[str, int]:
    """Return host and port of "host:port" or "[v6]:port". Raises SettingsError."""
    host, colon, port = address.rpartition(":")
    if not (colon and host and port.isascii() and port.isdigit() and int(port) < 65_536):
        raise SettingsError(f"{name} must look like 127.0.0.1:50051 or [::1]:50051")
    return host.strip("[]"), int(port)


def is_loopback(address: str) -> bool:
    """Whether only this machine can reach the address."""
    host, _ = split_address(address)
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:  # a name; names may start with "127." too
        return host == "localhost"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add one flag for each setting. Flags that are not given are absent from the result."""
    for option in fields(Settings):
        default, choices = option.default, choices_of(option)
        kind: dict[str, Any] = {"action": argparse.BooleanOptionalAction}
        if isinstance(default, bool):
            shown = "on" if default else "off"
        else:
            metavar = {int: "N", float: "SECONDS"}.get(type(default)) or METAVARS.get(option.name)
            shown = str(default) if default != "" else "empty"
            kind = {"type": type(default), "choices": choices}
            kind |= {} if choices else {"metavar": metavar or "FILE"}
        text = f"{option.metadata['help']} (default: {shown}; env: {env_name(option.name)})"
        parser.add_argument(
            "--" + option.name.replace("_", "-"),
            dest=option.name,
            default=argparse.SUPPRESS,
            help=text.replace("%", "%%"),
            **kind,
        )


def from_arguments(args: argparse.Namespace, env: Mapping[str, str] | None = None) -> Settings:
    """Merge flags, environment and defaults. Raises SettingsError, naming the setting."""
    env = os.environ if env is None else env
    values: dict[str, Any] = {}
    for option in fields(Settings):
        if hasattr(args, option.name):
            values[option.name] = getattr(args, option.name)
        elif (text := env.get(env_name(option.name))) is not None:
            values[option.name] = _parsed(text, type(option.default), env_name(option.name))
    return Settings(**values)


def parse(argv: Sequence[str], env: Mapping[str, str] | None = None) -> Settings:
    """Return the settings for these command-line arguments."""
    parser = argparse.ArgumentParser()
    add_arguments(parser)
    return from_arguments(parser.parse_args(argv), env)


def env_name(name: str) -> str:
    """Name of the environment variable of a setting."""
    return "CXR_" + name.upper()


def choices_of(setting: Field[Any]) -> tuple[str, ...] | None:
    """Return the values that a setting accepts, or None if it is not a choice."""
    choices = setting.metadata.get("choices")
    return tuple(choices()) if callable(choices) else choices


def _parsed(text: str, kind: type, name: str) -> Any:
    try:
        return ConfigParser.BOOLEAN_STATES[text.lower()] if kind is bool else kind(text)
    except (KeyError, ValueError):
        wanted = "true or false" if kind is bool else "a number"
        raise SettingsError(f"{name} must be {wanted}, not {text!r}") from None
