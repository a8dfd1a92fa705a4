"""Tune: Triton with numbers of instances and batch sizes, in turns. `python -m benchmarks.tune`.

What it gets in the benchmark is the best of these; see `triton_model`.
"""

import argparse
import statistics
from contextlib import ExitStack
from dataclasses import replace

from benchmarks import model, systems
from benchmarks.systems import Running, System

KIND = "1024 PNG"


def main() -> None:
    """Print rate, latency and processor time of each variant."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--peers-python", default="build/peers/bin/python")
    parser.add_argument("--turns", type=int, default=9)
    parser.add_argument("--instances", type=int, nargs="+", default=[1, 2, 3, 4, 6])
    parser.add_argument("--batches", type=int, nargs="+", default=[1, 4])
    args = parser.parse_args()
    tuned = systems.triton("Triton", "ours", args.peers_python)
    variants = [
        _variant(tuned, instances, batch) for instances in args.instances for batch in args.batches
    ]
    print(f"{'':<28}{'callers':>8}{'images/s':>10}{'p50 ms':>9}{'cpu ms':>9}")
    with ExitStack() as stack:
        bundle = model.bundle()
        running = [stack.enter_context(Running(each, bundle)) for each in variants]
        for callers in (4, 1):
            windows: dict[str, list[dict[str, float]]] = {each.name: [] for each in running}
            for turn in range(args.turns):
                for each in running[:: -1 if turn % 2 else 1]:
                    task = {"kind": KIND, "method": "predict", "callers": callers}
                    windows[each.name].append(each.measure(**task, seconds=1.2, warm_up_s=0.5))
            for name, taken in windows.items():
                rate, late_ms, cpu_ms = (
                    statistics.median(each[what] for each in taken)
                    for what in ("per_s", "p50_ms", "cpu_ms")
                )
                print(f"{name:<28}{callers:>8}{rate:>10.2f}{late_ms:>9.1f}{cpu_ms:>9.2f}")


def _variant(system: System, instances: int, batch: int) -> System:
    name = f"{instances} instances, batch {batch}"
    more = ["--instances", str(instances), "--batch", str(batch)]
    return replace(
        system, name=name, command=lambda port, bundle: [*system.command(port, bundle), *more]
    )


if __name__ == "__main__":
    main()
