"""Step 1: the machine, the versions, and the card's rates of copying and multiplying."""

import os
import platform
import subprocess
import sys
from collections.abc import Callable
from importlib.metadata import PackageNotFoundError, version

import torch

from gpu_check.common import CPU, OUT, ROOT, Attempts, record

PACKAGES = (
    *("torch", "torchvision", "torchxrayvision", "grad-cam", "timm", "triton", "tensorrt"),
    *("numpy", "pillow", "grpcio", "protobuf", "msgspec", "openvino", "pytest"),
)
SMI_FIELDS = (
    "name,driver_version,memory.total,pcie.link.gen.current,pcie.link.width.current,"
    "clocks.max.sm,persistence_mode,compute_mode"
)


def output(*command: str) -> str:
    """Return what a command prints, or why it does not run."""
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=20)
    except (OSError, subprocess.TimeoutExpired) as error:
        return repr(error)
    return done.stdout.strip()


def installed(package: str) -> str:
    """Return the version of a package."""
    try:
        return version(package)
    except PackageNotFoundError:
        return "not installed"


def seconds(work: Callable[[], object], count: int = 6) -> float:
    """Return the seconds that `work` takes on the card."""
    work()
    start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))  # type: ignore[no-untyped-call]
    start.record()
    for _ in range(count):
        work()
    end.record()
    torch.cuda.synchronize()
    return float(start.elapsed_time(end)) / count / 1000


def ceilings() -> dict[str, float]:
    """Return the card's rates: copies on the card, copies to it, and half-precision products."""
    source = torch.empty(2**30, dtype=torch.float32, device="cuda")
    target = torch.empty_like(source)
    host = torch.empty(2**26, dtype=torch.float32, pin_memory=True)
    matrix = torch.randn(8192, 8192, device="cuda", dtype=torch.float16)
    copy_s = seconds(lambda: target.copy_(source))
    upload_s = seconds(lambda: source[: 2**26].copy_(host, non_blocking=True))
    product_s = seconds(lambda: matrix @ matrix)
    return {
        "device copy, TB/s": round(2 * 4 * 2**30 / copy_s / 1e12, 2),
        "host to device, GB/s": round(4 * 2**26 / upload_s / 1e9, 1),
        "float16 product, TFLOP/s": round(2 * 8192**3 / product_s / 1e12),
    }


def main() -> int:
    """Run the step."""
    attempts = Attempts("machine")
    with attempts.part("base"):
        prefixes = ("OMP", "OPENBLAS", "MKL", "CUDA", "NVIDIA", "PYTORCH", "TORCH")
        record("machine", "cores", len(os.sched_getaffinity(0)))
        record("machine", "kernel", platform.release())
        record("machine", "python", sys.version.split()[0])
        record("machine", "versions", {name: installed(name) for name in PACKAGES})
        record("machine", "commit", output("git", "-C", str(ROOT), "log", "-1", "--oneline"))
        environment = {k: v for k, v in os.environ.items() if k.startswith(prefixes)}
        record("machine", "environment", environment)
    with attempts.part("torch"):
        found = {
            "cuda": torch.version.cuda,
            "cudnn": torch.backends.cudnn.version(),  # type: ignore[no-untyped-call]
            "threads": torch.get_num_threads(),
        }
        if not CPU:
            card = torch.cuda.get_device_properties(0)
            found |= {"card": card.name, "memory_gib": round(card.total_memory / 2**30, 1)}
        record("machine", "torch", found)
    if not CPU:
        with attempts.part("card"):
            fields = ("nvidia-smi", f"--query-gpu={SMI_FIELDS}", "--format=csv")
            (OUT / "nvidia-smi.txt").write_text(output("nvidia-smi", "-q"))
            record("machine", "nvidia-smi", output(*fields).splitlines())
            record("machine", "ceilings", ceilings())
    return attempts.status()


if __name__ == "__main__":
    sys.exit(main())
