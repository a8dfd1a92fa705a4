"""Registry: bundle, engine name and device name -> Engine. Imports only the chosen runtime."""

import shlex
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from cxr_server.bundles.architectures import DenseNet
from cxr_server.bundles.load import Bundle
from cxr_server.inference.engines import Engine

AUTO = "auto"
AUTO_ORDER = (("torch", "cuda:0"), ("openvino", "CPU"), ("torch", "cpu"))
"""What "auto" prefers when no device is given, best first; unlisted engines come last."""
_NVIDIA_DRIVER = (Path("/dev/nvidia0"), Path("/proc/driver/nvidia/version"), Path("/dev/dxg"))


class EngineUnavailable(Exception):
    """The requested engine cannot run here. The message says why and how to get it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineSpec:
    """One entry of the registry: what an engine needs, and how to start it."""

    name: str
    packages: tuple[str, ...]
    """Import packages that must be installed."""
    requirement: str
    """Argument of `pip install` that installs them."""
    bundle_file: str
    """The file of a bundle that the engine loads."""
    devices: tuple[str, ...]
    """Device names without an index, as the runtime spells them; the first is the default."""
    architectures: tuple[type[Any], ...] | None = None
    """Parameter types of the networks that it has modules for; None if it runs any graph."""
    open: Callable[[Bundle, str, Path | None, int | None], Engine]
    """Starts the engine: bundle, device, folder for compiled models, cores -> Engine."""
    device_problem: Callable[[str], str | None] = lambda device: None
    """Returns why a device of this engine cannot be used, or None. Called last."""

    def device_name(self, text: str) -> str | None:
        """Return the runtime's spelling of a device name, or None if it is not this engine's.

        Case is ignored. An index or a list may follow: "gpu.1", "CUDA:0", "hetero:gpu,cpu".
        """
        for device in self.devices:
            rest = text[len(device) :]
            if text.lower().startswith(device.lower()) and (not rest or rest[0] in ".:"):
                return device + (rest.upper() if device.isupper() else rest.lower())
        return None

    def why_not(self, bundle: Bundle, device: str | None = None) -> str | None:
        """Return why the engine cannot run this bundle here, or None when it can."""
        if any(find_spec(package) is None for package in self.packages):
            return f"{self.name} is not installed: pip install {shlex.quote(self.requirement)}"
        if self.bundle_file not in bundle.manifest.files:
            return f"bundle {bundle.manifest.name} has no {self.bundle_file} for {self.name}"
        network = bundle.manifest.network
        if self.architectures is not None and not isinstance(network, self.architectures):
            return f"{self.name} has no module for the architecture {network.name}"
        if device is None:
            return None
        if (device_name := self.device_name(device)) is None:
            return f"{self.name} has no device {device}, only {', '.join(self.devices)}"
        return self.device_problem(device_name)


def choose_engine(
    bundle: Bundle,
    engine: str = AUTO,
    *,
    device: str | None = None,
    cache_dir: Path | None = None,
    threads: int | None = None,
) -> Engine:
    """Start the first suitable engine for the bundle.

    Args:
        bundle: The model.
        engine: A name in `ENGINES`, or "auto" for the best that can run.
        device: A device name such as "CPU", "gpu" or "cuda:0"; None to choose by `AUTO_ORDER`.
        cache_dir: Folder for compiled models; None to compile at every start.
        threads: Cores to use on the CPU; None for all that the process may use.

    Raises:
        EngineUnavailable: No suitable engine is installed, fits the bundle and starts.
        BundleError: The bundle does not hold what it should.
    """
    if engine not in engine_choices():
        raise EngineUnavailable(f"engine must be one of {', '.join(engine_choices())}")
    reasons = []
    for spec, wanted in _candidates(engine, device):
        if reason := spec.why_not(bundle, wanted):
            reasons.append(reason)
            continue
        device_name = spec.device_name(wanted) or wanted
        with _single_line_errors(spec.name, device_name):
            return spec.open(bundle, device_name, cache_dir, threads)
    raise EngineUnavailable("; ".join(dict.fromkeys(reasons)))


def engine_choices() -> tuple[str, ...]:
    """Return the values that `choose_engine` accepts as `engine`."""
    return (AUTO, *ENGINES)


def _candidates(engine: str, device: str | None) -> list[tuple[EngineSpec, str]]:
    """Return engines with the device to try them on, best first."""
    pairs = [*AUTO_ORDER, *((name, spec.devices[0]) for name, spec in ENGINES.items())]
    if device is not None:
        pairs = [(name, device) for name in ENGINES]
    return [(ENGINES[name], wanted) for name, wanted in pairs if engine in (AUTO, name)]


@contextmanager
def _single_line_errors(engine: str, device: str) -> Iterator[None]:
    """Reduce a runtime's multi-line start-up error to its last line."""
    try:
        yield
    except (RuntimeError, AssertionError, ImportError) as error:
        reason = (str(error).strip().splitlines() or [type(error).__name__])[-1].strip()
        raise EngineUnavailable(f"{engine} does not start on {device}: {reason}") from error


def _open_openvino(
    bundle: Bundle, device: str, cache_dir: Path | None, threads: int | None
) -> Engine:
    from cxr_server.inference.engines.openvino import OpenVINOEngine

    return OpenVINOEngine(bundle, device=device, cache_dir=cache_dir, threads=threads)


def _open_torch(bundle: Bundle, device: str, cache_dir: Path | None, threads: int | None) -> Engine:
    from cxr_server.inference.engines.torch.engine import TorchEngine

    return TorchEngine(bundle, device=device, threads=threads)


def _cuda_problem(device: str) -> str | None:
    """Return why torch cannot use the device, or None."""
    if not device.startswith("cuda"):
        return None
    if not any(path.exists() for path in _NVIDIA_DRIVER):  # importing torch takes seconds
        return f"torch cannot use {device}: there is no NVIDIA driver"
    import torch

    count = torch.cuda.device_count() if torch.cuda.is_available() else 0
    index = device.partition(":")[2] or "0"
    if index.isdecimal() and int(index) < count:
        return None
    return f"torch cannot use {device}: it finds {count} CUDA devices"


ENGINES: dict[str, EngineSpec] = {
    spec.name: spec
    for spec in (
        EngineSpec(
            name="openvino",
            packages=("openvino",),
            requirement="openvino",
            bundle_file="openvino/model.xml",
            devices=("CPU", "GPU", "NPU", "AUTO", "HETERO", "MULTI"),
            open=_open_openvino,
        ),
        EngineSpec(
            name="torch",
            packages=("torch", "torchxrayvision", "safetensors"),
            requirement="cxr-server[torch]",
            bundle_file="weights.safetensors",
            devices=("cpu", "cuda"),
            architectures=(DenseNet,),
            open=_open_torch,
            device_problem=_cuda_problem,
        ),
    )
}
"""The engines by name. To add one, write a module and add its entry here."""
