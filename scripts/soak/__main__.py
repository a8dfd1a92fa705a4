"""Soak: four times the sustainable load, with every kind of caller, for minutes.

    start -> warm up -> saturate (what is sustainable?) -> overload -> hostile callers
          -> SIGTERM under load -> report

The hostile callers ask for many large pictures, and leave or do not read the answers; meanwhile
nobody reads the server's log. The server runs in a memory cgroup of 2 GiB where one may be made,
and the run ends as soon as it takes more.

`make soak` runs it on a full-size DenseNet-121 with random weights. SOAK_SECONDS (300) is the time
under load. The exit status says whether the claims hold; `--untimed` leaves out those that depend
on the machine. The server has one half of the cores and the callers the other, so that the cost of
four times as many calls to the callers does not count as a loss of the server's.
"""

import argparse
import asyncio
import json
import os
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import grpc
from scripts.soak.callers import Callers, Tally
from scripts.soak.hostile import HostileCallers
from scripts.soak.report import Outcome, lost_calls, report
from scripts.soak.server import Server, sample_memory

from cxr.v1 import chest_xray_pb2 as pb
from cxr.v1.chest_xray_pb2_grpc import ChestXrayServiceStub

OVERLOAD = 4.0
BUILD_MODEL = "from benchmarks import model; print(model.bundle())"


def probe(address: str) -> None:
    """Call Health ten times a second until stdin ends; print the latencies in ms as JSON."""
    times: list[float] = []
    os.set_blocking(0, False)
    with grpc.insecure_channel(address) as channel:
        stub = ChestXrayServiceStub(channel)  # type: ignore[no-untyped-call]
        while sys.stdin.buffer.read(1) != b"":
            started = time.monotonic()
            stub.Health(pb.HealthRequest(), timeout=30)
            times.append(1000 * (time.monotonic() - started))
            time.sleep(0.1)
    json.dump(times, sys.stdout)


def halves(cores: list[int]) -> tuple[list[int], list[int]]:
    """Return the cores of the server and those of the callers; of a single core, the same."""
    middle = (len(cores) + 1) // 2
    return cores[:middle], cores[middle:] or cores


def start_prober(address: str) -> subprocess.Popen[bytes]:
    """Start a process that calls Health: see `probe`."""
    return subprocess.Popen(
        [sys.executable, "-m", "scripts.soak", "--probe", address],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )


async def latencies_ms(prober: subprocess.Popen[bytes]) -> list[float]:
    """End a prober. Returns the latencies of its calls, sorted."""
    return sorted(json.loads(await asyncio.to_thread(lambda: prober.communicate()[0])))


async def run(model: str, seconds: float, untimed: bool) -> int:
    """Run the whole soak against one server. Returns the exit status."""
    log = Path(tempfile.mkstemp(prefix="cxr-soak-", suffix=".log")[1])
    server_cores, caller_cores = halves(sorted(os.sched_getaffinity(0)))
    os.sched_setaffinity(0, server_cores)  # the server inherits it
    server = Server(model, log)
    os.sched_setaffinity(0, caller_cores)
    print(f"cores: {len(server_cores)} for the server, {len(caller_cores)} for the callers")
    callers = Callers(server.address)
    await callers.open()
    await callers.saturate(max(2.0, seconds / 20))  # warm up
    # Health and memory are asked for in both phases, so that only the load differs.
    prober = start_prober(server.address)
    pss_mib: list[float] = []
    sampling = asyncio.create_task(sample_memory(server, pss_mib))
    cpu_s = server.cpu_s()
    results = len(callers.tally.right)
    capacity = await callers.saturate(max(3.0, seconds / 10))
    saturated_ms = 1000 * (server.cpu_s() - cpu_s) / (len(callers.tally.right) - results)
    print(f"saturated: {capacity:.1f} correct results/s")
    await latencies_ms(prober)
    prober = start_prober(server.address)
    callers.tally = Tally()
    started, cpu_s = time.monotonic(), server.cpu_s()
    await callers.offer(OVERLOAD * capacity, seconds / 10)  # warm-up: the memory of a full queue
    warm = len(pss_mib)
    pending = await callers.offer(OVERLOAD * capacity, seconds * 6 / 10)
    ended = time.monotonic()
    # Memory varies by some 10 MiB with the calls in flight: compare medians of a tenth each.
    tenth = max(1, (len(pss_mib) - warm) // 10)
    before_after = (
        statistics.median(pss_mib[warm : warm + tenth]),
        statistics.median(pss_mib[-tenth:]),
    )
    results = sum(when <= ended for when in callers.tally.right)
    goodput = results / (ended - started)
    overloaded_ms = 1000 * (server.cpu_s() - cpu_s) / max(results, 1)
    health_ms = await latencies_ms(prober)
    hostile = HostileCallers(callers)
    attack = asyncio.create_task(hostile.run(seconds * 3 / 10))
    server.log_is_read.clear()
    pending |= await callers.offer(OVERLOAD * capacity, seconds * 3 / 10)
    await attack
    server.log_is_read.set()
    await asyncio.gather(*pending)
    alive = await callers.is_served()
    callers.draining = True
    server.process.send_signal(signal.SIGTERM)
    pending = await callers.offer(OVERLOAD * capacity, 1.0)
    await asyncio.gather(*pending)
    sampling.cancel()
    status = await server.end()
    await callers.close()
    return report(
        Outcome(
            tally=callers.tally,
            lost=lost_calls(callers.tally, server),
            capacity_per_s=capacity,
            goodput_per_s=goodput,
            cpu_ms=(saturated_ms, overloaded_ms),
            health_ms=health_ms,
            hostile=hostile,
            dropped_lines=server.dropped_lines(),
            alive=alive,
            pss_mib=before_after,
            peak_mib=max(pss_mib),
            status=status,
        ),
        untimed=untimed,
    )


def main() -> int:
    """Run the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", default="", help="bundle to serve (default: random weights)")
    parser.add_argument("--seconds", type=float, default=float(os.getenv("SOAK_SECONDS", "300")))
    parser.add_argument("--untimed", action="store_true", help="check no time and no memory")
    parser.add_argument("--probe", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.probe:
        probe(args.probe)
        return 0
    model = args.model
    if not model:  # in a process of its own, so that torch takes no memory here
        done = subprocess.run(
            [sys.executable, "-c", BUILD_MODEL], check=True, stdout=subprocess.PIPE, text=True
        )
        model = done.stdout.split()[-1]
    return asyncio.run(run(model, args.seconds, args.untimed))


if __name__ == "__main__":
    sys.exit(main())
