"""Checks: values out of range and settings that contradict each other. Raise SettingsError."""

import difflib
import itertools
import math
from collections.abc import Callable
from dataclasses import Field
from typing import Any

from cxr_server.settings.addresses import Address
from cxr_server.settings.options import Settings, SettingsError, choices_of, options

ADDRESSES = ("listen", "health_listen", "metrics_listen", "admin_listen")


def check_values(settings: Settings) -> None:
    """Check each value against its choices and its range."""
    for option in options():
        if problem := _problem(option, getattr(settings, option.name)):
            raise SettingsError(f"{settings.told(option.name)} {problem}")


def _problem(option: Field[Any], value: Any) -> str | None:
    if (choices := choices_of(option)) and value not in choices:
        close = difflib.get_close_matches(value, choices, 1)
        hint = f"; did you mean {close[0]}?" if close else ""
        return f"is not one of {', '.join(choices)}{hint}"
    low, high = option.metadata.get("low"), option.metadata.get("high")
    if isinstance(value, float) and not math.isfinite(value):
        return "is not a finite number"
    if low is None or (low <= value and (high is None or value <= high)):
        return None
    return f"is below {low}" if high is None else f"is not from {low} to {high}"


def check_model(settings: Settings) -> None:
    """Check that a model is named, and none by blanks."""
    if not settings.model or not all(map(str.strip, settings.model)):
        raise SettingsError(f"{settings.told('model')} names no model")


def check_sides(settings: Settings) -> None:
    """Check that some image can be accepted."""
    told, smallest = settings.told, settings.min_side_px**2
    if settings.max_side_px < settings.min_side_px:
        raise SettingsError(f"{told('max_side_px')} is below {told('min_side_px')}")
    if 0 < settings.max_pixels < smallest:
        raise SettingsError(
            f"{told('max_pixels')} is below {smallest}, the pixels of the smallest square that"
            f" {told('min_side_px')} allows"
        )


def check_addresses(settings: Settings) -> None:
    """Check how addresses are written, that they differ, and that plaintext stays on loopback."""
    found: dict[str, Address] = {}
    for name in ADDRESSES:
        if not (text := getattr(settings, name)) and name != "listen":
            continue
        try:
            found[name] = Address.parse(text)
        except ValueError as error:
            raise SettingsError(f"{settings.told(name)}: {error}") from None
    if "metrics_listen" in found and found["metrics_listen"].path:
        raise SettingsError(f"{settings.told('metrics_listen')}: Prometheus needs HOST:PORT")
    for one, other in itertools.combinations(found, 2):
        if found[one] == found[other] and (found[one].port or found[one].path):
            raise SettingsError(f"{settings.told(one)} and {settings.told(other)} are the same")
    if not (settings.tls_cert or settings.insecure or found["listen"].is_loopback):
        raise SettingsError(
            f"{settings.told('listen')} can be reached from other machines, in plaintext: give"
            " --tls-cert and --tls-key, or --insecure where the network itself is trusted"
        )


def check_admin(settings: Settings) -> None:
    """Check that only callers of this machine, or those with a token and over TLS, swap models."""
    told = settings.told
    if settings.admin_tokens_file and not settings.admin_listen:
        raise SettingsError(f"{told('admin_tokens_file')} needs --admin-listen as well")
    if not settings.admin_listen or Address.parse(settings.admin_listen).is_loopback:
        return
    for name in ("tls_cert", "admin_tokens_file"):
        if not getattr(settings, name):
            raise SettingsError(
                f"{told('admin_listen')} can be reached from other machines, which could swap"
                f" models: it needs --{name.replace('_', '-')}"
            )


def check_together(settings: Settings) -> None:
    """Check that TLS is given as a whole, and a key for the audit file only with that file."""
    told = settings.told
    for name, missing in (("tls_cert", "tls_key"), ("tls_key", "tls_cert")):
        if getattr(settings, name) and not getattr(settings, missing):
            raise SettingsError(f"{told(name)} needs --{missing.replace('_', '-')} as well")
    if settings.tls_client_ca and not settings.tls_cert:
        raise SettingsError(f"{told('tls_client_ca')} needs --tls-cert and --tls-key as well")
    if settings.audit_key_file and not settings.audit_file:
        raise SettingsError(f"{told('audit_key_file')} needs --audit-file as well")


CHECKS: dict[str, Callable[[Settings], None]] = {
    "values": check_values,
    "model": check_model,
    "sides": check_sides,
    "addresses": check_addresses,
    "admin": check_admin,
    "files": check_together,
}
"""All of them, in the order in which they can be trusted."""
