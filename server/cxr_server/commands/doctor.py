"""`cxr-server doctor`: checks whether `serve` with these settings can run here, and why not."""

import argparse
import json
import os
import platform
import re
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import asdict, dataclass
from functools import partial
from importlib.metadata import PackageNotFoundError, requires, version
from pathlib import Path
from typing import Any

# gRPC would log that no server runs.
os.environ.setdefault("GRPC_VERBOSITY", "NONE")

import numpy as np

from cxr_server import settings
from cxr_server.budget import ThreadBudget
from cxr_server.bundles.load import Bundle, load_bundle
from cxr_server.bundles.manifest import BundleError
from cxr_server.bundles.store import (
    PHANTOM_PATH,
    WantedModel,
    bundle_home,
    cache_home,
    list_bundles,
    resolve,
)
from cxr_server.errors import OperatorError
from cxr_server.imaging.radiograph import DecodeLimits
from cxr_server.inference.engines import Engine, cpu
from cxr_server.inference.engines.cores import usable_cores
from cxr_server.inference.engines.registry import ENGINES, choose_engine
from cxr_server.inference.preprocess import XRV, Job, hold_of, preprocessing_of
from cxr_server.inference.verify import verify_engine
from cxr_server.memory import decoding, divide
from cxr_server.observability.metrics import Metrics
from cxr_server.preflight import PREFLIGHT, AddressInUse, PreflightCheck
from cxr_server.resources import decode_processes
from cxr_server.rpc.probe import find_server
from cxr_server.rpc.servicer import SERVICE
from cxr_server.settings import Settings, SettingsError

MIN_MEMORY_MIB = 1024
RUNS = 5
ASK_S = 4.0  # for the answer of a server that runs


@dataclass(frozen=True, slots=True)
class Check:
    """The result of one check. `state` is "ok", "note" or "fail"."""

    name: str
    state: str
    detail: str


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of the command: those of `serve`, and the form of the output."""
    settings.add_arguments(parser)
    parser.add_argument("--json", action="store_true", help="print JSON")


def run(args: argparse.Namespace) -> int:
    """Run and print every check. Returns 0 if `serve` can run with these settings, else 1."""
    checks = []
    for check in _checks(args):
        checks.append(check)
        if not args.json:
            print(f"{check.state:5}{check.name}: {check.detail}", flush=True)
    failed = [check.name for check in checks if check.state == "fail"]
    if args.json:
        content = {"can_serve": not failed, "checks": [asdict(check) for check in checks]}
        print(json.dumps(content, indent=2))
    elif failed:
        print(f"This machine cannot serve with these settings: {', '.join(failed)}")
    else:
        print("This machine can serve with these settings.")
    return int(bool(failed))


def _checks(args: argparse.Namespace) -> Iterator[Check]:
    yield Check("python", "ok", f"{platform.python_version()} on {platform.platform()}")
    yield from _packages()
    yield Check("cores", "ok", f"{usable_cores()} usable of {os.cpu_count()}")
    yield _attempt("precisions of the CPU", "note", cpu.told)
    yield _memory()
    try:
        chosen = settings.from_arguments(args)
    except SettingsError as error:
        yield Check("settings", "fail", str(error))
        return
    yield Check("settings", "ok", "values and limits are consistent")
    for check in PREFLIGHT:
        yield _preflight(check, chosen)
    yield _attempt("decoding", "fail", _decode, chosen)
    yield from _bundles_and_engines(chosen)


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


def _preflight(check: PreflightCheck, chosen: Settings) -> Check:
    """Run a check of `serve`; its warnings become a note."""
    try:
        warnings = list(check.run(chosen))
    except AddressInUse as error:
        if found := _running(chosen):
            return Check(check.name, "note", f"in use by the server that runs: {found}")
        return Check(check.name, "fail", str(error))
    except OperatorError as error:
        return Check(check.name, "fail", str(error))
    if warnings:
        return Check(check.name, "note", "; ".join(warnings))
    given = not check.setting or getattr(chosen, check.setting)
    passed = check.passed if isinstance(check.passed, str) else check.passed(chosen)
    return Check(check.name, "ok", passed if given else "none given")


def _running(chosen: Settings) -> str:
    """Tell where a server with these settings answers, whatever its status; "" if none does."""
    try:
        address, status = find_server(chosen, ASK_S, SERVICE)
    except OperatorError:
        return ""
    return f"{address} answers {status}"


def _bundles_and_engines(chosen: Settings) -> Iterator[Check]:
    """Verify the bundle to serve and run its engine. Other bundles and engines give notes only."""
    home = Path(chosen.bundle_home) if chosen.bundle_home else bundle_home()
    try:
        served, *more = (resolve(WantedModel.parse(text).bundle, home) for text in chosen.model)
        others = [path for path in list_bundles(home).values() if path not in (served, *more)]
    except BundleError:
        return  # the check of the model has reported it
    for path in (served, *more):
        yield _attempt(f"bundle {path.name}", "fail", _verify, path)
    for path in others:
        yield _attempt(f"bundle {path.name}", "note", _verify, path)
    for path in (served, *more):
        yield from _engines(chosen, path, is_default=path == served)


def _engines(chosen: Settings, path: Path, *, is_default: bool) -> Iterator[Check]:
    """Start the engine that serves a bundle, and for the default model the others as well."""
    try:
        bundle = load_bundle(path)
    except BundleError:
        return  # reported above
    start = partial(
        choose_engine,
        bundle,
        cache_dir=Path(chosen.cache_dir) if chosen.cache_dir else cache_home(),
        threads=chosen.engine_threads or None,
        precision=chosen.precision,
    )
    engine = partial(start, chosen.engine, device=chosen.device or None)
    name = "engine to serve with" if is_default else f"engine to serve {path.name} with"
    yield _attempt(name, "fail", _infer, bundle, chosen.precision, engine)
    if bundle.manifest.quantization and (doubt := cpu.int8_doubt()):
        yield Check("int8", "note", doubt)
    if not is_default:
        return
    for name, spec in ENGINES.items():
        if reason := spec.why_not(bundle, precision=chosen.precision):
            yield Check(f"engine {name}", "note", reason)
        else:
            other = partial(start, name)
            yield _attempt(f"engine {name}", "note", _infer, bundle, chosen.precision, other)


def _decode(chosen: Settings) -> str:
    """Decode the probe of the phantom in a process, and tell where images are decoded."""
    memory = divide(chosen, usable_cores())
    manifest = load_bundle(PHANTOM_PATH).manifest
    assert manifest.probe
    image = (PHANTOM_PATH / manifest.probe.file).read_bytes()
    job = Job(preprocessing=XRV, side_px=manifest.input_side_px, limits=DecodeLimits())
    hold = hold_of(ThreadBudget(memory.decode_bytes), _no_check)
    start_s = time.perf_counter()
    with closing(decode_processes(memory, job.side_px, Metrics())) as processes:
        processes.preprocess(image, job, hold=hold, check=_no_check)
        started_s = time.perf_counter() - start_s
    return f"{decoding(memory)}; the first was started in {started_s:.1f} s"


def _no_check() -> None: ...


def _verify(path: Path) -> str:
    manifest = load_bundle(path).manifest
    preprocessing_of(manifest)
    return f"complete, {len(manifest.files)} files, weights {manifest.weights_sha256[:12]}"


def _infer(bundle: Bundle, precision: str, start: Callable[[], Engine]) -> str:
    """Start and verify an engine as `serve` does; return how long starting and running took."""
    side = bundle.manifest.input_side_px
    ramp = np.linspace(-1024, 1024, side * side, dtype=np.float32).reshape(1, 1, side, side)
    moments = [time.perf_counter()]
    with closing(start()) as engine:
        difference = verify_engine(engine, bundle, precision)
        moments.append(time.perf_counter())
        for _ in range(RUNS):
            engine.evidence(ramp)
            moments.append(time.perf_counter())
    start_s, *runs_s = np.diff(moments)
    median_ms = 1000 * np.median(runs_s)
    where = f"{engine.name} on {engine.device} in {engine.precision}"
    equal = "not verified" if difference is None else f"scores equal to {difference:.0e}"
    return f"{where}, started in {start_s:.1f} s, {median_ms:.1f} ms an image, {equal}"


def _attempt(name: str, state: str, attempt: Callable[..., str], *arguments: Any) -> Check:
    """Run a check; any error gives it this state."""
    try:
        return Check(name, "ok", attempt(*arguments))
    except Exception as error:  # errors of drivers and runtimes have any type
        kind = "" if isinstance(error, OperatorError) else f"{type(error).__name__}: "
        return Check(name, state, f"{kind}{error}")
