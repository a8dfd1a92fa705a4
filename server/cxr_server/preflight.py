"""Preflight: whether a server can start with these settings on this machine, and what is doubtful.

`serve` runs the checks before it starts anything, and `doctor` reports each of them.
"""

import difflib
import os
import shutil
import stat
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from cxr_server.access import read_tokens
from cxr_server.audit import read_key
from cxr_server.bundles.manifest import BundleError
from cxr_server.bundles.store import (
    WantedModel,
    bundle_home,
    cache_home,
    list_bundles,
    resolve,
    resolve_all,
)
from cxr_server.convert.catalog import CATALOG
from cxr_server.errors import OperatorError
from cxr_server.inference.engines.cores import usable_cores
from cxr_server.memory import divide, loaded_at_once
from cxr_server.observability import tracing
from cxr_server.settings import MIB, Address, Settings, SettingsError
from cxr_server.settings.addresses import PORT_IN_USE, SOCKET_IN_USE
from cxr_server.settings.checks import ADDRESSES
from cxr_server.settings.environment import check_names
from cxr_server.tls import check_tls

MIN_CACHE_FREE_MIB = 64
"""What the compiled forms of a DenseNet-121 take, about."""


class CannotListen(OperatorError):
    """An address that cannot be listened on now. The message names the setting and the reason."""


class AddressInUse(CannotListen):
    """Something listens on addresses already, and nothing else is wrong with any."""


def check_environment(settings: Settings) -> Iterator[str]:
    """Yield the names of variables that look like settings and are none."""
    yield from check_names(os.environ)


def check_tracing(settings: Settings) -> Iterator[str]:
    """Yield why calls are not traced, where the environment asks for it."""
    if problem := tracing.problem(os.environ):
        yield problem


def check_memory(settings: Settings) -> Iterator[str]:
    """Divide the memory budget. Raises SettingsError."""
    divide(settings, usable_cores())
    yield from ()


def told_memory(settings: Settings) -> str:
    """Return a sentence on the share of the budget that the process and its models have."""
    memory, count = divide(settings, usable_cores()), loaded_at_once(settings)
    models = f"{count} models" if count > 1 else "the model"
    swap = ", one of them for a swap" if settings.admin_listen else ""
    return (
        f"enough for the limits: {memory.process_bytes // MIB} of {memory.budget_bytes // MIB} MiB"
        f" are for the process and {models}{swap}"
    )


def check_listen(settings: Settings) -> Iterator[str]:
    """Look whether each address can be listened on. Raises CannotListen."""
    in_use = []
    for name in ADDRESSES:
        if (text := getattr(settings, name)) and (problem := Address.parse(text).problem()):
            told = f"{settings.told(name)}: {problem}"
            if problem not in (PORT_IN_USE, SOCKET_IN_USE):
                raise CannotListen(told)
            in_use.append(told)
    if in_use:
        raise AddressInUse("; ".join(in_use))
    yield from ()


def check_tokens(settings: Settings, setting: str = "tokens_file") -> Iterator[str]:
    """Read a tokens file. Raises SettingsError."""
    if not getattr(settings, setting):
        return
    path, told = Path(getattr(settings, setting)), settings.told(setting)
    try:
        names = read_tokens(path.read_bytes())
    except OSError as error:
        raise SettingsError(f"{told}: {error.strerror}") from None
    except SettingsError as error:
        raise SettingsError(f"{told}: {error}") from None
    if not names:
        yield f"{told} holds no token: every call will be refused"
    if path.stat().st_mode & stat.S_IWOTH:
        yield f"{told} can be changed by every user: chmod 600"


def check_audit(settings: Settings) -> Iterator[str]:
    """Look whether the audit file can be appended to, and read its key. Raises SettingsError."""
    if not settings.audit_file:
        return
    path, told = Path(settings.audit_file), settings.told("audit_file")
    if path.is_dir() or not os.access(path if path.exists() else path.parent, os.W_OK):
        raise SettingsError(f"{told} cannot be written to")
    if Path(os.path.realpath(path)).is_fifo():  # the pipe behind /dev/stdout has no such name
        raise SettingsError(f"{told} is a named pipe, which waits for its reader: give a file")
    read_key(settings)
    if not settings.audit_key_file:
        yield (
            "no --audit-key-file: each start generates a new key, so nobody can find an"
            " image in the audit file again"
        )
    elif Path(settings.audit_key_file).stat().st_mode & stat.S_IROTH:
        yield f"{settings.told('audit_key_file')} can be read by every user: chmod 600"


def check_cache(settings: Settings) -> Iterator[str]:
    """Try to write to the folder of compiled models, which only makes starting faster."""
    folder = Path(settings.cache_dir) if settings.cache_dir else cache_home()
    told = settings.told("cache_dir") if settings.cache_dir else f"the cache folder {folder}"
    slower = "models are compiled at every start"
    if not folder:
        yield f"this user has no home folder, so {slower}: give --cache-dir"
        return
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder) as file:
            file.write(bytes(4096))
        free_mib = shutil.disk_usage(folder).free // MIB
    except OSError as error:
        yield f"{told} cannot be written to, so {slower}: {error.strerror}"
        return
    if free_mib < MIN_CACHE_FREE_MIB:
        yield f"{told} has {free_mib} MiB free, so perhaps {slower}"


def check_bundle_home(settings: Settings) -> Iterator[str]:
    """Look for the folder of bundles, if one is named."""
    if settings.bundle_home and not Path(settings.bundle_home).is_dir():
        yield f"{settings.told('bundle_home')} is not a folder: there are no prepared bundles"


def check_model(settings: Settings) -> Iterator[str]:
    """Find the bundles of the models. Raises BundleError, also for two models of one name.

    The message has the nearest name of a bundle, and how to prepare it.
    """
    home = Path(settings.bundle_home) if settings.bundle_home else bundle_home()
    for text in settings.model:
        _check_bundle(WantedModel.parse(text).bundle, settings.told("model"), home)
    resolve_all(settings.model, home)
    yield from ()


def _check_bundle(name: str, told: str, home: Path | None) -> None:
    try:
        resolve(name, home)
    except BundleError as error:
        bundles = list_bundles(home)
        if name in CATALOG:
            raise BundleError(f"{told} is not prepared: run `cxr-server prepare {name}`") from None
        if close := difflib.get_close_matches(name, [*bundles, *CATALOG], 1):
            first = "" if close[0] in bundles else f" (run `cxr-server prepare {close[0]}` first)"
            raise BundleError(f"{told}: {error}; did you mean {close[0]}{first}?") from None
        raise BundleError(f"{told}: {error}; `cxr-server models` lists what there is") from None


@dataclass(frozen=True, slots=True)
class PreflightCheck:
    """One check: `run` yields warnings and raises OperatorError; `passed` describes success.

    If the setting named by `setting` is empty, there is nothing to check.
    """

    name: str
    run: Callable[[Settings], Iterator[str]]
    passed: str | Callable[[Settings], str]
    setting: str = ""


PREFLIGHT = (
    PreflightCheck("environment", check_environment, "no unknown CXR_* variable"),
    PreflightCheck("memory budget", check_memory, told_memory),
    PreflightCheck("model", check_model, "found"),
    PreflightCheck("bundle home", check_bundle_home, "found", "bundle_home"),
    PreflightCheck("cache folder", check_cache, "can be written to"),
    PreflightCheck("TLS files", check_tls, "usable", "tls_cert"),
    PreflightCheck("tokens file", check_tokens, "usable", "tokens_file"),
    PreflightCheck(
        "admin tokens file",
        partial(check_tokens, setting="admin_tokens_file"),
        "usable",
        "admin_tokens_file",
    ),
    PreflightCheck("audit file", check_audit, "usable", "audit_file"),
    PreflightCheck("addresses", check_listen, "can be listened on"),
    PreflightCheck("tracing", check_tracing, lambda _: tracing.summary(os.environ)),
)
