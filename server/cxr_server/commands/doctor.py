"""`cxr-server doctor`: checks whether this machine can serve, and why not."""

import argparse
import json
import os
import platform
import re
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import asdict, dataclass
from importlib.metadata import PackageNotFoundError, requires, version
from pathlib import Path
from typing import Any

import numpy as np

from cxr_server.bundles.load import Bundle, load_bundle
from cxr_server.bundles.manifest import BundleError
from cxr_server.bundles.store import PHANTOM, cache_home, list_bundles, resolve
from cxr_server.errors import OperatorError
from cxr_server.inference.engines.cores import usable_cores
from cxr_server.inference.engines.registry import ENGINES, EngineUnavailable, choose_engine
from cxr_server.inference.preprocess import preprocessing_of

MIN_MEMORY_MIB = 1024
RUNS = 5


@dataclass(frozen=True, slots=True)
class Check:
    """The result of one check. `state` is "ok", "note" or "fail"."""

    name: str
    state: str
    detail: str


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of the command."""
    parser.add_argument("--model", default=PHANTOM, help="bundle to check (default: phantom)")
    parser.add_argument("--bundle-home", type=Path, metavar="DIR", help="folder of bundles")
    parser.add_argument("--port", type=int, default=50051, help="port to check (default: 50051)")
    parser.add_argument("--json", action="store_true", help="print JSON")


def run(args: argparse.Namespace) -> int:
    """Run and print every check. Returns 0, or 1 when one failed."""
    checks = []
    for check in _checks(args):
        checks.append(check)
        if not args.json:
            print(f"{check.state:5}{check.name}: {check.detail}", flush=True)
    if args.json:
        print(json.dumps([asdict(check) for check in checks], indent=2))
    return int(any(check.state == "fail" for check in checks))


def _checks(args: argparse.Namespace) -> Iterator[Check]:
    yield Check("python", "ok", f"{platform.python_version()} on {platform.platform()}")
    yield from _packages()
    yield Check("cores", "ok", f"{usable_cores()} usable of {os.cpu_count()}")
    yield _memory()
    bundles = list_bundles(args.bundle_home)
    for name, path in bundles.items():
        yield _attempt(f"bundle {name}", _verify, path)
    try:
        bundle = load_bundle(resolve(args.model, args.bundle_home))
        preprocessing_of(bundle.manifest)
    except BundleError as error:
        yield Check("inference", "fail", str(error))
    else:
        if args.model not in bundles:
            yield Check(f"bundle {args.model}", "ok", f"complete, at {bundle.path}")
        yield from _engines(bundle)
    yield _port(args.port)


def _packages() -> Iterator[Check]:
    """Look for everything that the server's own metadata requires, extras included."""
    try:
        requirements = requires("cxr-server") or []
    except PackageNotFoundError:
        yield Check("cxr-server", "note", "not installed: its requirements are unknown")
        return
    for requirement in requirements:
        name = re.split(r"[^\w.-]", requirement, maxsplit=1)[0]
        try:
            yield Check(name, "ok", version(name))
        except PackageNotFoundError:
            yield Check(name, "note" if "extra ==" in requirement else "fail", "not installed")


def _memory() -> Check:
    free_mib = os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") // 2**20
    return Check("memory", "ok" if free_mib >= MIN_MEMORY_MIB else "note", f"{free_mib} MiB free")


def _verify(path: Path) -> str:
    manifest = load_bundle(path).manifest
    preprocessing_of(manifest)
    return f"complete, {len(manifest.files)} files, weights {manifest.weights_sha256[:12]}"


def _engines(bundle: Bundle) -> Iterator[Check]:
    """Try every engine that can run; fail if none can."""
    reasons = {name: spec.why_not(bundle) for name, spec in ENGINES.items()}
    for name, reason in reasons.items():
        if reason is None:
            yield _attempt(f"engine {name}", _infer, bundle, name)
        else:
            yield Check(f"engine {name}", "fail" if all(reasons.values()) else "note", reason)


def _infer(bundle: Bundle, name: str) -> str:
    """Start an engine as `serve` does, run it, and return how long that took."""
    side = bundle.manifest.input_side_px
    ramp = np.linspace(-1024, 1024, side * side, dtype=np.float32).reshape(1, 1, side, side)
    moments = [time.perf_counter()]
    with closing(choose_engine(bundle, name, cache_dir=cache_home())) as engine:
        moments.append(time.perf_counter())
        for _ in range(RUNS):
            evidence = engine.evidence(ramp)
            moments.append(time.perf_counter())
    if not np.isfinite(evidence).all():
        raise EngineUnavailable("the evidence is not finite")
    start_s, *runs_s = np.diff(moments)
    median_ms = 1000 * np.median(runs_s)
    return f"{engine.device}, started in {start_s:.1f} s, {median_ms:.1f} ms an image"


def _port(port: int) -> Check:
    name = f"port {port}"
    try:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", port))
    except (OSError, OverflowError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        return Check(name, "note", f"{reason}: serve on another with --listen")
    return Check(name, "ok", "free")


def _attempt(name: str, attempt: Callable[..., str], *arguments: Any) -> Check:
    """Run a check and report any error as a failure."""
    try:
        return Check(name, "ok", attempt(*arguments))
    except Exception as error:  # errors of drivers and runtimes have any type
        kind = "" if isinstance(error, OperatorError) else f"{type(error).__name__}: "
        return Check(name, "fail", f"{kind}{error}")
