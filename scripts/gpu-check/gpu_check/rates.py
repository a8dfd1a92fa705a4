"""Step 6: images per second of the engine, and of its network in other forms, by batch size.

"engine" includes the copies from and to NumPy arrays. The other rows run on data on the card.
"""

import sys
import threading
import time
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import numpy as np
import torch

from cxr_server.inference.engines.torch.engine import CUDA_BATCH_SIZES, TorchEngine
from cxr_server.inference.engines.torch.network import EvidenceNet, load_module
from gpu_check import assets
from gpu_check.common import CPU, OUT, Attempts, left_s, record
from gpu_check.timing import (
    DEVICE,
    Net,
    eager,
    graphed,
    images,
    seconds_of,
    synchronize,
    use_tf32,
)

SIZES = (1, 2) if CPU else (1, 2, 4, 8, 16, 32, 64, 128)
FEW = (1,) if CPU else (1, 8, 32, 64)


def drive(engine: TorchEngine, threads: int, sizes: Sequence[int], seconds: float) -> Any:
    """Call the engine from threads. Returns images per second and busy cores."""
    rng = np.random.default_rng(0)
    images_nchw = rng.uniform(-1024, 1024, (max(sizes), 1, 224, 224)).astype(np.float32)
    counts = [0] * threads
    until = time.monotonic() + seconds

    def call(thread: int) -> None:
        turn = thread
        while time.monotonic() < until:
            size = sizes[turn % len(sizes)]
            engine.evidence(images_nchw[:size])
            counts[thread] += size
            turn += 1

    callers = [threading.Thread(target=call, args=(n,)) for n in range(threads)]
    started, spent_s = time.monotonic(), time.process_time()
    for caller in callers:
        caller.start()
    for caller in callers:
        caller.join()
    taken_s = time.monotonic() - started
    busy = round((time.process_time() - spent_s) / taken_s, 2)
    return {"per_s": round(sum(counts) / taken_s), "busy cores": busy}


def engine_rates(started: Callable[[], TorchEngine]) -> dict[str, Any]:
    """Return how long the engine takes to start and what it gives."""
    memory = torch.cuda.mem_get_info()[0]
    began = time.monotonic()
    engine = started()
    found: dict[str, Any] = {"started, s": round(time.monotonic() - began, 2)}
    found["card memory, MiB"] = round((memory - torch.cuda.mem_get_info()[0]) / 2**20)
    began = time.monotonic()
    rebuild = threading.Thread(target=lambda: started().close())  # as after a failure
    rebuild.start()
    rebuild.join()
    found["started again in another thread, s"] = round(time.monotonic() - began, 2)
    window_s, most = (0.2, engine.max_batch) if CPU else (1.0, engine.max_batch)
    for name, threads, sizes in (
        ("1 thread, full batches", 1, (most,)),
        ("2 threads, full batches", 2, (most,)),
        ("2 threads, all sizes", 2, tuple(range(1, most + 1))),
        ("2 threads, single images", 2, (1,)),
    ):
        found[name] = drive(engine, threads, sizes, window_s)
    engine.close()
    return found


def table(make: Callable[[int], Callable[[], object]], sizes: Sequence[int]) -> dict[int, Any]:
    """Return milliseconds for a batch and images per second, by batch size."""
    found = {}
    for size in sizes:
        if left_s() > 5:
            seconds = seconds_of(make(size))
            found[size] = {"ms": round(1000 * seconds, 3), "per_s": round(size / seconds)}
    return found


def profile(net: Net) -> dict[str, float]:
    """Write a profile of one batch of 32. Returns the number of kernels and their time."""
    from torch.profiler import ProfilerActivity
    from torch.profiler import profile as profiler

    batch = images(32)
    with torch.inference_mode():
        net(batch)
        synchronize()
        with profiler(activities=[ProfilerActivity.CUDA, ProfilerActivity.CPU]) as seen:
            net(batch)
            synchronize()
    averages: Any = seen.key_averages()
    (OUT / "profile.txt").write_text(averages.table(sort_by="cuda_time_total", row_limit=40))
    events: Any = seen.events()
    kernels = [event for event in events if event.device_type.name == "CUDA"]
    total_ms = sum(kernel.device_time for kernel in kernels) / 1000
    return {"kernels": len(kernels), "ms": round(total_ms, 2)}


def main() -> int:
    """Run the step."""
    if CPU:
        from gpu_check import fakes

        fakes.install()
    attempts = Attempts("rates")
    bundle = assets.bundle()
    module = load_module(bundle)

    def started(precision: str) -> TorchEngine:
        sizes = SIZES if CPU else CUDA_BATCH_SIZES
        return TorchEngine(bundle, device="cuda:0", batch_sizes=sizes, precision=precision)

    for precision in ("float32", "tf32", "float16"):
        if attempts.has_time(f"engine, {precision}", 0.2 if CPU else 25):
            with attempts.part(f"engine, {precision}"):
                found = engine_rates(partial(started, precision))
                record("rates", f"engine, {precision}", found)
    for name, dtype, tf32, sizes in (
        ("float32", torch.float32, False, SIZES),
        ("half", torch.float16, False, SIZES),
        ("float32 with TF32", torch.float32, True, FEW),
        ("bfloat16", torch.bfloat16, False, FEW),
    ):
        if not attempts.has_time(name, 0.2 if CPU else 8):
            continue
        with attempts.part(name):
            use_tf32(tf32)
            net = EvidenceNet(module, DEVICE, dtype)
            for benchmark in (False, True):
                torch.backends.cudnn.benchmark = benchmark
                key = f"{name}, graph" + (", cudnn.benchmark" if benchmark else "")
                if not CPU:
                    rates = table(lambda size, net=net: graphed(net, images(size)), sizes)  # type: ignore[misc]
                    record("rates", key, rates)
            torch.backends.cudnn.benchmark = False
            rates = table(lambda size, net=net: eager(net, images(size)), FEW)  # type: ignore[misc]
            record("rates", f"{name}, eager", rates)
    if not CPU and attempts.has_time("profile", 15):
        with attempts.part("profile"):
            record("rates", "profile", profile(EvidenceNet(module, DEVICE)))
    return attempts.status()


if __name__ == "__main__":
    sys.exit(main())
