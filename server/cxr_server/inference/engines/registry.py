"""Choose: bundle and settings -> Engine. Imports only the runtime that it settles on."""

from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path

from cxr_server.bundles.load import Bundle
from cxr_server.inference.engines import Engine

ENGINES = ("auto", "openvino", "torch")
_OPENVINO_MODEL = "openvino/model.xml"
_NVIDIA_MARKS = (Path("/dev/nvidia0"), Path("/proc/driver/nvidia/version"), Path("/dev/dxg"))


class EngineUnavailable(Exception):
    """The engine that was asked for cannot run here. The message says how to get it."""


def choose_engine(
    bundle: Bundle,
    engine: str = "auto",
    *,
    device: str | None = None,
    cache_dir: Path | None = None,
    threads: int | None = None,
) -> Engine:
    """Start an engine for the bundle.

    Args:
        bundle: The model.
        engine: "openvino", "torch", or "auto": torch on an NVIDIA GPU where both are there,
            else OpenVINO, else torch on the CPU.
        device: The engine's name of a device, such as "CPU" or "cuda:0"; None to choose.
        cache_dir: Where OpenVINO keeps compiled models; None to compile at every start.
        threads: Cores to use; None for all that the process may use.

    Raises:
        EngineUnavailable: It is not installed, or the bundle was not prepared for it.
        BundleError: The bundle does not hold what it should.
    """
    if engine not in ENGINES:
        raise EngineUnavailable(f"engine must be one of {', '.join(ENGINES)}")
    if engine == "auto":
        engine = _best_engine(bundle, device)
    if reason := why_not(engine, bundle):
        raise EngineUnavailable(reason)
    if engine == "openvino":
        from cxr_server.inference.engines.openvino import OpenVINOEngine

        with _said_briefly(engine, device):
            return OpenVINOEngine(
                bundle, device=device or "CPU", cache_dir=cache_dir, threads=threads
            )
    from cxr_server.inference.engines.torch.engine import TorchEngine

    with _said_briefly(engine, device):
        return TorchEngine(bundle, device=device or _torch_device(), threads=threads)


def why_not(engine: str, bundle: Bundle) -> str | None:
    """Return why `engine` cannot run this bundle here, or None when it can."""
    if engine == "openvino":
        if find_spec("openvino") is None:
            return "openvino is not installed: pip install openvino"
        if _OPENVINO_MODEL not in bundle.manifest.files:
            return f"bundle {bundle.manifest.name} was prepared without an OpenVINO model"
        return None
    missing = [
        name for name in ("torch", "torchxrayvision", "safetensors") if find_spec(name) is None
    ]
    if missing:
        return f"{missing[0]} is not installed: pip install 'cxr-server[torch]'"
    return None


@contextmanager
def _said_briefly(engine: str, device: str | None) -> Iterator[None]:
    """Turn a runtime's pages on what is wrong with a device into a line."""
    try:
        yield
    except (RuntimeError, AssertionError) as error:
        reason = (str(error).strip().splitlines() or [type(error).__name__])[-1].strip()
        where = f" on {device}" if device else ""
        raise EngineUnavailable(f"{engine} does not start{where}: {reason}") from error


def _best_engine(bundle: Bundle, device: str | None) -> str:
    wants_cuda = device is None or device.startswith("cuda")
    if wants_cuda and why_not("torch", bundle) is None and _torch_device() != "cpu":
        return "torch"
    if device is not None and device == device.lower():  # torch writes "cpu", OpenVINO "CPU"
        return "torch"
    return "torch" if why_not("openvino", bundle) else "openvino"


def _torch_device() -> str:
    """Return "cuda:0" where torch can use it, else "cpu".

    Torch takes seconds to import, so it is asked only where there is an NVIDIA device at all.
    """
    if not any(mark.exists() for mark in _NVIDIA_MARKS):
        return "cpu"
    import torch

    return "cuda:0" if torch.cuda.is_available() else "cpu"
