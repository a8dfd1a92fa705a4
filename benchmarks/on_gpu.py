"""On a GPU: what the card and the cores of a machine allow, and how much of that servers reach.

`make bench` ends with it where torch finds a GPU, and `make bench-gpu` measures nothing else. The
ceiling is the engine alone, by precision and batch size. Then one server, and several on the same
card, are called from several processes. They are bound by the card, or by the cores: all of these,
divided by the CPU time that server and callers take for an image. With `--device cpu`, torch on the
CPU takes the place of the GPU, which shows that everything runs.
"""

import argparse
import json
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

from benchmarks import many_callers, model
from benchmarks.processes import Worker
from benchmarks.radiographs import JPEG_2373, PNG_224, PNG_1024, Kind, encoded
from benchmarks.systems import COMPILED, OURS, Running
from cxr_server.inference.engines.cores import usable_cores
from cxr_server.inference.engines.registry import ENGINES

CUDA, CPU = "cuda:0", "cpu"
RESULTS = Path(__file__).parent / "results"
TARGET = 0.9
WINDOW_S = 3.0
SERVED = "float32"
"""The precision that the servers use."""
Results = dict[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What is measured: the ceiling by precision and batch, and servers, kinds and callers."""

    precisions: tuple[str, ...] = (SERVED, "tf32", "float16")
    batches: tuple[int, ...] = (1, 2, 4, 8, 16, 32, 64)
    servers: tuple[int, ...] = (1, max(2, usable_cores() // 2))
    kinds: tuple[Kind, ...] = (PNG_1024, JPEG_2373)
    callers: tuple[int, ...] = (1, 64, 256)
    seconds: float = WINDOW_S


SMOKE = Plan(
    precisions=(SERVED,),
    batches=(1, 2),
    servers=(1, 2),
    kinds=(PNG_224,),
    callers=(4,),
)


def found() -> bool:
    """Return whether torch can use a GPU. Imports torch only where there is a driver."""
    return ENGINES["torch"].device_problem(CUDA) is None


def measured(device: str, plan: Plan, *, small: bool) -> Results:
    """Take all measurements on a device as torch spells it."""
    bundle, cores = model.bundle(small), usable_cores()
    for kind in plan.kinds:
        for seed in range(kind.films):
            encoded(kind, seed)
    ceiling = {name: _ceiling(device, name, plan, bundle) for name in plan.precisions}
    served: list[Results] = []
    with _workers(max(2, cores // 4), bundle) as extra:
        for count in plan.servers:
            served += _served(device, count, plan, bundle, extra)
    return {"device": device, "cores": cores, "ceiling": ceiling, "served": served}


def _ceiling(device: str, precision: str, plan: Plan, bundle: Path) -> dict[str, Results]:
    """Return the engine's rates by batch size, with as many threads as keep it busy."""
    flags = ["--engine", "torch", "--device", device, "--precision", precision]
    if device == CPU:
        flags += ["--threads", "1"]
    worker = Worker("benchmarks.ceiling", "--bundle", str(bundle), *flags, bundle=bundle)
    try:
        rates = {}
        for batch in plan.batches:
            task = {"callers": 64, "batch": batch, "seconds": plan.seconds / 3, "warm_up_s": 0.2}
            rates[str(batch)] = worker.ask(task)
            _say(f"engine alone, {precision}, {batch}: {rates[str(batch)]['per_s']:.1f} images/s")
        return rates
    finally:
        worker.end()


def _served(
    device: str, count: int, plan: Plan, bundle: Path, extra: list[Worker]
) -> Iterator[Results]:
    """Measure a number of servers that share the device and the cores."""
    cores = usable_cores()
    flags = ["--engine", "torch", "--device", device, "--cache-dir", str(COMPILED)]
    if count > 1:
        flags += ["--decode-threads", str(max(1, cores // count))]
    if device == CPU:
        flags += ["--engine-threads", "1"]  # teams of threads would spin beside one another

    def command(port: int, bundle: Path) -> list[str]:
        listen = ("--listen", f"127.0.0.1:{port}")
        return ["-m", "cxr_server", "serve", "--model", str(bundle), *listen, *flags]

    servers = [
        Running(replace(OURS, name=f"gpu {n + 1} of {count}", command=command), bundle)
        for n in range(count)
    ]
    with ExitStack() as stack:
        many_callers.start_all(stack, servers)
        for kind in plan.kinds:
            for method in ("predict", "explain"):
                for callers in plan.callers:
                    ask = partial(many_callers.measure, servers, extra, callers=callers)
                    window = ask(method=method, kind=kind.name, seconds=plan.seconds)
                    cell = {"servers": count, "method": method, "kind": kind.name}
                    what = f"{count} servers, {method}, {kind.name}, {callers} callers"
                    _say(f"{what}: {window['per_s']:.1f} images/s")
                    yield cell | {"callers": callers} | window


@contextmanager
def _workers(count: int, bundle: Path) -> Iterator[list[Worker]]:
    """Processes of callers."""
    with ExitStack() as stack:
        workers = []
        for _ in range(count):
            workers.append(Worker("benchmarks.callers", bundle=bundle))
            stack.callback(workers[-1].end)
        yield workers


def card_per_s(results: Results) -> float:
    """Return what the card gives in the precision that is served, at its best batch size."""
    return float(max(each["per_s"] for each in results["ceiling"][SERVED].values()))


def cores_per_s(results: Results, window: Results) -> float:
    """Return what the cores would give if they did nothing but what a window's images took."""
    return float(1000 * results["cores"] / (window["server_cpu_ms"] + window["callers_cpu_ms"]))


def verdicts(results: Results) -> list[Results]:
    """Return the best window for each kind of call, with what bounds it and its share of that."""
    best: dict[tuple[str, str], Results] = {}
    for window in results["served"]:
        key = (window["method"], window["kind"])
        if key not in best or window["per_s"] > best[key]["per_s"]:
            best[key] = window
    found = []
    for window in best.values():
        bounds = {"card": card_per_s(results), "cores": cores_per_s(results, window)}
        bound = min(bounds, key=lambda name: bounds[name])
        share = window["per_s"] / bounds[bound]
        found.append(window | {"bounds_per_s": bounds, "bound": bound, "share": share})
    return found


def text(results: Results) -> str:
    """Return the tables and the verdicts."""
    batches = list(next(iter(results["ceiling"].values())))
    lines = [f"{results['device']}, {results['cores']} cores; engine alone, images/s by batch size"]
    lines.append(f"{'':<12}" + "".join(f"{batch:>9}" for batch in batches))
    for precision, rates in results["ceiling"].items():
        lines.append(f"{precision:<12}" + "".join(f"{rates[n]['per_s']:>9.0f}" for n in batches))
    columns = ("images/s", "p50 ms", "p95 ms", "CPU ms", "callers'")
    lines += ["", f"{'served in ' + SERVED:<28}{'servers':>8}{'callers':>8}"]
    lines[-1] += "".join(f"{name:>10}" for name in columns)
    for each in results["served"]:
        numbers = (each[key] for key in ("per_s", "p50_ms", "p95_ms", "server_cpu_ms"))
        shown = (*numbers, each["callers_cpu_ms"])
        line = f"{each['method'].title() + ', ' + each['kind']:<28}"
        line += f"{each['servers']:>8}{each['callers']:>8}"
        line += "".join(f"{'-':>10}" if n is None else f"{n:>10.1f}" for n in shown)
        failed = sum(each["failures"].values())
        lines.append(line + (f"  {failed} failed" if failed else ""))
    claim = "of min(card, cores / CPU time an image), best window"
    lines += ["", f"{claim:<58}{'>=':>5}{TARGET:>5g}"]
    for each in verdicts(results):
        bounds = ", ".join(f"{name} {rate:.0f}/s" for name, rate in each["bounds_per_s"].items())
        verdict = "met" if each["share"] >= TARGET else "NOT MET"
        what = f"{each['method'].title()}, {each['kind']}, {each['servers']} servers"
        lines.append(f"{what:<58}{each['share']:>10.2f}  {verdict}  ({bounds})")
    return "\n".join(lines)


def _say(text: str) -> None:
    print(f"  {text}", file=sys.stderr, flush=True)


def main() -> int:
    """Measure, write the numbers as JSON, and print the tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--device", default=CUDA, help="as torch spells it")
    parser.add_argument("--seconds", type=float, default=WINDOW_S, help="length of a window")
    parser.add_argument("--smoke", action="store_true", help="tiny: shows that everything runs")
    parser.add_argument("--if-found", action="store_true", help="do nothing if there is no GPU")
    parser.add_argument("--json", type=Path, help="where to write the numbers")
    args = parser.parse_args()
    if args.if_found and not found():
        print("no GPU: nothing is measured on one", file=sys.stderr)
        return 0
    plan = replace(SMOKE if args.smoke else Plan(), seconds=args.seconds)
    results = measured(args.device, plan, small=args.smoke)
    stamp = datetime.now(UTC).strftime("%Y%m%dT%H%M%SZ")
    path = args.json or RESULTS / f"gpu-{stamp}.json"
    path.write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")
    print(f"numbers: {path}", file=sys.stderr)
    print(text(results))
    return 0


if __name__ == "__main__":
    sys.exit(main())
