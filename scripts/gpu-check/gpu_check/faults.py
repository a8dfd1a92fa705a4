"""Step 7: an engine that fails once, a full card, and a lost CUDA context."""

import itertools
import json
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

import grpc
from benchmarks.radiographs import encoded, numbered
from benchmarks.systems import Running

from cxr.v1 import chest_xray_pb2 as pb
from cxr.v1.chest_xray_pb2_grpc import ChestXrayServiceStub
from gpu_check import load
from gpu_check.assets import PNG, bundle_path
from gpu_check.common import CPU, Attempts, left_s, record

HOLD_CARD = """
import time, torch
free = torch.cuda.mem_get_info()[0]
held = torch.empty(free - (300 << 20), dtype=torch.uint8, device="cuda")
print("held", flush=True)
time.sleep(40)
"""
_numbers = itertools.count(time.time_ns())


def call(stub: Any) -> tuple[str, float]:
    """Return the status and the seconds of one Predict."""
    image = numbered(encoded(PNG), next(_numbers))
    started = time.monotonic()
    try:
        stub.Predict(pb.PredictRequest(image=image), timeout=10)
        code = "OK"
    except grpc.RpcError as error:
        code = error.code().name
    return code, time.monotonic() - started


def engine_events(running: Running) -> dict[str, int]:
    """Return how often the server's log tells of each event of the engine."""
    counts: dict[str, int] = {}
    for line in load.log_of(running).splitlines():
        with suppress(ValueError):
            event = json.loads(line).get("event", "")
            if event.startswith("engine"):
                counts[event] = counts.get(event, 0) + 1
    return counts


def watch(running: Running, order: signal.Signals, most_s: float) -> dict[str, Any]:
    """Order a fault, then call until the engine has been rebuilt or the server has ended."""
    with grpc.insecure_channel(running.address) as channel:
        stub = ChestXrayServiceStub(channel)  # type: ignore[no-untyped-call]
        call(stub)
        before, rebuilt = load.card_memory_mib(), engine_events(running).get("engine rebuilt", 0)
        started = time.monotonic()
        running.server.send_signal(order)
        codes: dict[str, int] = {}
        slowest_s = refused_s = 0.0
        while time.monotonic() < started + min(most_s, left_s() - 3):
            code, taken_s = call(stub)
            codes[code] = codes.get(code, 0) + 1
            slowest_s = max(slowest_s, taken_s)
            if code != "OK":
                refused_s = time.monotonic() - started
                time.sleep(0.05)
            elif engine_events(running).get("engine rebuilt", 0) > rebuilt:
                break
            if running.server.poll() is not None:
                break
    return {
        "calls": codes,
        "slowest s": round(slowest_s, 2),
        "last refusal after s": round(refused_s, 2),
        "log": engine_events(running),
        "exit status": running.server.poll(),
        "card MiB": [before, load.card_memory_mib()],
    }


@contextmanager
def full_card() -> Iterator[None]:
    """Leave 300 MiB of the card's memory free while the block runs."""
    command = [sys.executable, "-c", HOLD_CARD]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as holder:
        assert holder.stdout
        holder.stdout.readline()
        try:
            yield
        finally:
            holder.kill()


def main() -> int:
    """Run the step."""
    attempts = Attempts("faults")
    path, variant = bundle_path(), "faulty"
    with (
        attempts.part("out of memory"),
        load.server(path, "faulty", "--cache-entries", "0", variant=variant) as running,
    ):
        for count, name in enumerate(("out of memory", "out of memory again"), 1):
            found = watch(running, signal.SIGUSR1, 40)
            record("faults", name, found)
            if found["log"].get("engine rebuilt") != count:
                raise RuntimeError("the engine was not rebuilt")
        if not CPU and left_s() > 20:
            with full_card():
                record("faults", "full card", watch(running, signal.SIGUSR1, 15))
    with (
        attempts.part("context lost"),
        load.server(path, "lost", "--cache-entries", "0", variant=variant) as running,
    ):
        found = watch(running, signal.SIGUSR2, 60)
        with suppress(subprocess.TimeoutExpired):
            running.server.wait(max(1.0, min(20.0, left_s() - 2)))
        record("faults", "context lost", found | {"exit status": running.server.poll()})
        if running.server.poll() in (None, 0):
            raise RuntimeError("the server must end with an error when the device is lost")
        if found["log"].keys() & {"engine rebuilt", "engine not rebuilt"}:
            raise RuntimeError("no other engine must be tried on a lost device")
    return attempts.status()


if __name__ == "__main__":
    sys.exit(main())
