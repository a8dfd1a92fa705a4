"""Step 8: the same network through torch.compile, where there is time."""

import sys
import time
from typing import Any

import torch

from cxr_server.inference.engines.torch.network import EvidenceNet, load_module
from gpu_check import assets
from gpu_check.common import CPU, Attempts, record, rounded
from gpu_check.timing import DEVICE, graphed, images, seconds_of, synchronize


def measure(net: EvidenceNet, size: int) -> dict[str, Any]:
    """Compile for a batch size. Returns the time of compiling and of a batch."""
    torch._dynamo.reset()
    batch = images(size)
    # The default backend needs a C compiler on a CPU; the eager one only traces.
    compiled: Any = torch.compile(net, dynamic=False, backend="eager" if CPU else "inductor")
    with torch.inference_mode():
        expected = net(batch)[0].clone()
        started = time.monotonic()
        found, _ = compiled(batch)
        synchronize()
        compile_s = time.monotonic() - started
    result = {
        "compile s": round(compile_s, 1),
        "difference": rounded((found - expected).abs().max()),
        "largest evidence": rounded(expected.abs().max()),
    }
    if not CPU:
        seconds = seconds_of(graphed(compiled, batch))
        result |= {"graph ms": round(1000 * seconds, 3), "per_s": round(size / seconds)}
    return result


def main() -> int:
    """Run the step."""
    attempts = Attempts("compiled")
    bundle = assets.bundle()
    module = load_module(bundle)
    net = EvidenceNet(module, DEVICE, torch.float32 if CPU else torch.float16)
    for size in (1,) if CPU else (32, 64, 1, 8):
        if attempts.has_time(f"batch of {size}", 5 if CPU else 35):
            with attempts.part(f"batch of {size}"):
                record("compiled", f"batch of {size}", measure(net, size))
    return attempts.status()


if __name__ == "__main__":
    sys.exit(main())
