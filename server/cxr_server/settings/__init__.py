"""Settings: command line and environment `CXR_*` -> checked Settings. Flag > environment > default.

    options      every setting, with its help text, group and limits
    environment  variables that are no settings: refused, named or ignored
    sources      flags and environment -> Settings
    addresses    text -> Address, and whether it can be listened on
    checks       what contradicts itself in the settings alone

What needs files, sockets or bundles is checked by `preflight`.
"""

from cxr_server.settings.addresses import Address
from cxr_server.settings.options import MIB, Settings, SettingsError, choices_of, env_name, options
from cxr_server.settings.sources import add_arguments, from_arguments, parse, read

__all__ = [
    "MIB",
    "Address",
    "Settings",
    "SettingsError",
    "add_arguments",
    "choices_of",
    "env_name",
    "from_arguments",
    "options",
    "parse",
    "read",
]
