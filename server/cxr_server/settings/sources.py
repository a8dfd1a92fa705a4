"""Sources: flags and environment -> Settings.

A flag precedes the environment, which precedes the default. An empty variable counts as unset.
"""

import argparse
import os
from collections.abc import Callable, Collection, Mapping, Sequence
from configparser import ConfigParser
from dataclasses import Field
from typing import Any

from cxr_server.settings.checks import CHECKS
from cxr_server.settings.environment import check_names
from cxr_server.settings.options import (
    GROUPS,
    Settings,
    SettingsError,
    choices_of,
    env_name,
    flag_name,
    options,
    written_as_flag,
)

_METAVARS = {"_px": "PIXELS", "_pixels": "PIXELS", "_mib": "MIB", "_s": "SECONDS"}
"""What `--help` shows for a value, by the end of the setting's name."""
_KINDS: dict[type, tuple[Callable[[str], Any], str]] = {
    bool: (lambda text: ConfigParser.BOOLEAN_STATES[text.lower()], "neither true nor false"),
    int: (int, "not a whole number"),
    float: (float, "not a number"),
    str: (str, ""),
    tuple: (lambda text: tuple(filter(None, map(str.strip, text.split(",")))), ""),
}
"""How the text of a value is read, and what is said of text that cannot be."""


def add_arguments(parser: argparse.ArgumentParser, only: Collection[str] = ()) -> None:
    """Add one flag for each setting, in groups, or for some of them.

    The values stay text, so that flags and environment are read alike. Flags that are not given
    are absent from the result.
    """
    if not only:
        parser.usage = "%(prog)s [FLAG ...]"  # there are too many to show twice
    groups = {name: parser.add_argument_group(name) for name in GROUPS}
    for option in options():
        if only and option.name not in only:
            continue
        default, choices = option.default, choices_of(option)
        if isinstance(default, bool):
            shown = "on" if default else "off"
            kind: dict[str, Any] = {"action": argparse.BooleanOptionalAction}
        else:
            shown = default_text(option)
            kind = {"metavar": "{" + ",".join(choices) + "}" if choices else _metavar(option)}
            if isinstance(default, tuple):
                kind["action"] = "append"
        shown = f"default: {shown}; " if shown else ""  # the help says what an empty one means
        text = f"{option.metadata['help']} ({shown}env: {env_name(option.name)})"
        groups[option.metadata["group"]].add_argument(
            flag_name(option.name),
            dest=option.name,
            default=argparse.SUPPRESS,
            help=text.replace("%", "%%"),
            **kind,
        )


def default_text(option: Field[Any]) -> str:
    """Return the default of a setting that is not a switch, as the variable would give it."""
    default = option.default
    return ",".join(default) if isinstance(default, tuple) else str(default)


def read(args: argparse.Namespace, env: Mapping[str, str]) -> Settings:
    """Merge flags, environment and defaults. Raises SettingsError for text that has no value."""
    values: dict[str, Any] = {}
    given: dict[str, str] = {}
    for option in options():
        name, variable = option.name, env_name(option.name)
        if hasattr(args, name):
            value = getattr(args, name)
            given[name] = written_as_flag(name, value)
        elif value := env.get(variable, ""):
            given[name] = f"{variable}={value}"
        else:
            continue
        if isinstance(value, list):
            values[name] = tuple(value)  # repeated flags
        else:
            values[name] = value if isinstance(value, bool) else _value(option, value, given[name])
    return Settings(**values, given=given)


def from_arguments(args: argparse.Namespace, env: Mapping[str, str] | None = None) -> Settings:
    """Merge flags, environment and defaults, and check them. Raises SettingsError."""
    env = os.environ if env is None else env
    check_names(env)
    settings = read(args, env)
    for check in CHECKS.values():
        check(settings)
    return settings


def parse(argv: Sequence[str], env: Mapping[str, str] | None = None) -> Settings:
    """Return the settings for these command-line arguments."""
    parser = argparse.ArgumentParser(allow_abbrev=False)
    add_arguments(parser)
    return from_arguments(parser.parse_args(argv), env)


def _metavar(option: Field[Any]) -> str:
    if "metavar" in option.metadata:
        return str(option.metadata["metavar"])
    units = (unit for end, unit in _METAVARS.items() if option.name.endswith(end))
    return next(units, "FILE" if isinstance(option.default, str) else "N")


def _value(option: Field[Any], text: str, told: str) -> Any:
    if choices_of(option):
        return text.lower()
    read, wrong = _KINDS[type(option.default)]
    try:
        return read(text)
    except (KeyError, ValueError):
        raise SettingsError(f"{told} is {wrong}") from None
