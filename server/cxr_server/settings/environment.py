"""Environment: variables named `CXR_*` that are no settings.

A name close to that of a setting is refused, since a setting that is not read, such as a tokens
file, may open the server. Kubernetes adds variables for each service, and the client reads some.
"""

import difflib
import re
from collections.abc import Mapping

from cxr_server.settings.options import SettingsError, env_name, options

CLIENT_VARIABLES = frozenset(
    f"CXR_{name}"
    for name in (
        "SERVER",
        "TOKEN",
        "TLS",
        "CA_FILE",
        "CERT_FILE",
        "KEY_FILE",
        "TLS_SERVER_NAME",
        "HEALTH_CHECK",
    )
)
"""What the command `cxr` reads."""

CLOSE = 0.8
"""Similarity above which a name counts as mistyped, such as CXR_TOKENS for CXR_TOKENS_FILE."""

_SERVICE = re.compile(
    r"CXR_(\w+_)?(SERVICE_HOST|SERVICE_PORT(_\w+)?|PORT_\d+_(TCP|UDP|SCTP)(_\w+)?)"
)
_LINK = re.compile(r"CXR_(\w+_)?PORT")
_LINK_VALUE = re.compile(r"(tcp|udp|sctp)://.*")


def check_names(env: Mapping[str, str]) -> list[str]:
    """Return a warning for each `CXR_*` variable that nothing reads; empty ones count as unset.

    Raises SettingsError for a name that is close to that of a setting.
    """
    settings, warnings = [env_name(option.name) for option in options()], []
    for name, value in env.items():
        known = name in settings or name in CLIENT_VARIABLES
        if known or not (value and name.startswith("CXR_")) or _of_a_service(name, value):
            continue
        if close := difflib.get_close_matches(name, settings, 1, cutoff=CLOSE):
            raise SettingsError(f"{name} is not a setting; did you mean {close[0]}?")
        warnings.append(f"{name} is not a setting and is ignored")
    return warnings


def _of_a_service(name: str, value: str) -> bool:
    link = _LINK.fullmatch(name) and _LINK_VALUE.fullmatch(value)
    return bool(_SERVICE.fullmatch(name) or link)
