"""Registry: bundle, engine name and device name -> Engine. Imports only the chosen runtime."""

from collections.abc import Callable
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from cxr_server.bundles.architectures import DenseNet
from cxr_server.bundles.load import Bundle
from cxr_server.errors import OperatorError
from cxr_server.inference.engines import BFLOAT16, FLOAT32, TF32, Engine, EngineOptions
from cxr_server.inference.engines.cpu import multiplies_bfloat16

AUTO = "auto"
PRECISIONS = (FLOAT32, TF32, "float16", BFLOAT16)
_NVIDIA_DRIVER = (Path("/dev/nvidia0"), Path("/proc/driver/nvidia/version"), Path("/dev/dxg"))


class EngineUnavailable(OperatorError):
    """The requested engine cannot run here. The message says why and how to get it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineSpec:
    """One entry of the registry: what an engine needs, and how to start it."""

    name: str
    packages: tuple[str, ...]  # must be installed
    requirement: str  # argument of `pip install` that installs them, quoted for a shell
    bundle_file: str  # what it loads
    devices: tuple[str, ...]  # as the runtime spells them, without an index; default first
    open: Callable[[Bundle, EngineOptions], Engine]
    architectures: tuple[type[Any], ...] | None = None
    """Those that it has modules for; None if it runs any graph."""
    reduced_precisions: Callable[[str], tuple[str, ...]] = lambda device: ()
    """Returns which of the `PRECISIONS` below float32 a device of this engine computes in."""
    runs_quantized: bool = False
    """Whether it runs the graph of a bundle in int8, not the weights in float32."""
    device_problem: Callable[[str], str | None] = lambda device: None
    """Returns why a device of this engine cannot be used, or None."""

    def device_name(self, text: str) -> str:
        """Return the runtime's spelling of a device name, or "" if it is not this engine's.

        Case is ignored. An index or a list may follow: "gpu.1", "CUDA:0", "hetero:gpu,cpu".
        """
        for device in self.devices:
            rest = text[len(device) :]
            if text.lower().startswith(device.lower()) and (not rest or rest[0] in ".:"):
                return device + (rest.upper() if device.isupper() else rest.lower())
        return ""

    def why_not(
        self, bundle: Bundle, device: str | None = None, precision: str = FLOAT32
    ) -> str | None:
        """Return why the engine cannot run this bundle on a device, or None when it can."""
        if any(find_spec(package) is None for package in self.packages):
            return f"{self.name} is not installed: pip install {self.requirement}"
        if self.bundle_file not in bundle.manifest.files:
            return f"bundle {bundle.manifest.name} has no {self.bundle_file} for {self.name}"
        network = bundle.manifest.network
        if self.architectures is not None and not isinstance(network, self.architectures):
            return f"{self.name} has no module for the architecture {network.name}"
        if bundle.manifest.quantization and not self.runs_quantized:
            return f"{self.name} does not compute in int8, which {bundle.manifest.name} is for"
        if not (device_name := self.device_name(device or self.devices[0])):
            return f"{self.name} has no device {device}, only {', '.join(self.devices)}"
        if precision != FLOAT32:
            if bundle.manifest.quantization:
                return f"bundle {bundle.manifest.name} is in int8 and cannot be run in {precision}"
            able = self.reduced_precisions(device_name)
            if precision not in able:
                only = " or ".join((FLOAT32, *able))
                return f"{self.name} on {device_name} computes in {only} only, not in {precision}"
        return self.device_problem(device_name)


def choose_engine(
    bundle: Bundle,
    engine: str = AUTO,
    *,
    device: str | None = None,
    cache_dir: Path | None = None,
    threads: int | None = None,
    precision: str = FLOAT32,
) -> Engine:
    """Start the named engine of `ENGINES`, or with "auto" the best that can run the bundle.

    The device, such as "CPU", "gpu" or "cuda:0", is by default CUDA where there is a GPU, else the
    engine's default. For the others, see `EngineOptions`. Raises BundleError, and EngineUnavailable
    if no such engine is installed, fits the bundle and starts.
    """
    if engine not in engine_choices():
        raise EngineUnavailable(f"engine must be one of {', '.join(engine_choices())}")
    candidates = [(name, device or spec.devices[0]) for name, spec in ENGINES.items()]
    if device is None:
        candidates.insert(0, ("torch", "cuda:0"))
    reasons = []
    for name, wanted in candidates:
        if engine not in (AUTO, name):
            continue
        spec = ENGINES[name]
        if reason := spec.why_not(bundle, wanted, precision):
            reasons.append(reason)
            continue
        options = EngineOptions(
            device=spec.device_name(wanted),
            precision=precision,
            threads=threads,
            cache_dir=cache_dir,
        )
        try:
            opened = spec.open(bundle, options)
        except (RuntimeError, AssertionError, ImportError) as error:
            reason = f"{name} does not start on {options.device}: {first_line(error)}"
            raise EngineUnavailable(reason) from error
        if precision not in (FLOAT32, opened.precision):
            opened.close()
            where = f"{name} on {options.device} computes in"
            raise EngineUnavailable(f"{where} {opened.precision}, though asked for {precision}")
        return opened
    raise EngineUnavailable("; ".join(dict.fromkeys(reasons)))


def engine_choices() -> tuple[str, ...]:
    """Return the values that `choose_engine` accepts as `engine`."""
    return (AUTO, *ENGINES)


def first_line(error: BaseException) -> str:
    """Return the line of a runtime's error that says what happened.

    CUDA's messages begin with it, and advice follows; OpenVINO's begin with places in its source.
    """
    lines = [line.strip() for line in str(error).splitlines()]
    return next((line for line in lines if line and line[-1] != ":"), type(error).__name__)


def _open_openvino(bundle: Bundle, options: EngineOptions) -> Engine:
    from cxr_server.inference.engines.openvino import OpenVINOEngine

    return OpenVINOEngine(
        bundle,
        device=options.device,
        precision=options.precision,
        cache_dir=options.cache_dir,
        threads=options.threads,
    )


def _open_torch(bundle: Bundle, options: EngineOptions) -> Engine:
    from cxr_server.inference.engines.torch.engine import TorchEngine

    return TorchEngine(
        bundle, device=options.device, precision=options.precision, threads=options.threads
    )


def _by_amx(device: str) -> tuple[str, ...]:
    return (BFLOAT16,) if device == "CPU" and multiplies_bfloat16() else ()


def _on_cuda(device: str) -> tuple[str, ...]:
    return PRECISIONS[1:] if device.startswith("cuda") else ()


def _cuda_problem(device: str) -> str | None:
    """Return why torch cannot use the device, or None."""
    if not device.startswith("cuda"):
        return None
    if not any(path.exists() for path in _NVIDIA_DRIVER):  # importing torch takes seconds
        return f"torch cannot use {device}: there is no NVIDIA driver"
    import torch

    count = torch.cuda.device_count() if torch.cuda.is_available() else 0
    found = [f"cuda:{index}" for index in range(count)]
    if device in found or (found and device == "cuda"):
        return None
    return f"torch cannot use {device}: it finds {', '.join(found) or 'no CUDA device'}"


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
            reduced_precisions=_by_amx,
            runs_quantized=True,
        ),
        EngineSpec(
            name="torch",
            packages=("torch", "torchxrayvision", "safetensors"),
            requirement="'./server[torch]'",
            bundle_file="weights.safetensors",
            devices=("cpu", "cuda"),
            architectures=(DenseNet,),
            open=_open_torch,
            reduced_precisions=_on_cuda,
            device_problem=_cuda_problem,
        ),
    )
}
"""The engines by name, best first. To add one, write a module and add its entry here."""
