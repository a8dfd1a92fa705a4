"""The registry names every engine, says why one cannot run, and starts the best that can."""

from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np
import pytest

from cxr_server.bundles.load import Bundle
from cxr_server.inference.engines import Engine, EngineOptions, SaliencyEngine, cpu
from cxr_server.inference.engines.registry import (
    ENGINES,
    PRECISIONS,
    EngineSpec,
    EngineUnavailable,
    choose_engine,
)
from cxr_server.settings import SettingsError, parse


@pytest.fixture(scope="module")
def bundle(phantom_bundle: Bundle) -> Bundle:
    return phantom_bundle


@dataclass
class ToyEngine:
    """Answers zeros."""

    device: str
    name: str = "toy"
    precision: str = "float32"
    max_batch: int = 2
    max_in_flight: int = 1

    def evidence(self, batch_nchw: np.ndarray) -> np.ndarray:
        return np.zeros((len(batch_nchw), 1, 7, 7), np.float32)

    def close(self) -> None:
        pass


def toy_spec(name: str = "toy", **changes: object) -> EngineSpec:
    spec = EngineSpec(
        name=name,
        packages=("numpy",),
        requirement="numpy",
        bundle_file="weights.safetensors",
        devices=("toy",),
        open=lambda bundle, options: ToyEngine(options.device, precision=options.precision),
    )
    return replace(spec, **changes)  # type: ignore[arg-type]


@pytest.fixture
def fakes(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, str]]:
    """Replace every engine by a toy; returns the list of (engine, device) that were opened."""
    opened: list[tuple[str, str]] = []
    for name, spec in list(ENGINES.items()):

        def start(bundle: Bundle, options: EngineOptions, *, name: str = name) -> Engine:
            opened.append((name, options.device))
            return ToyEngine(options.device, precision=options.precision)

        monkeypatch.setitem(ENGINES, name, replace(spec, open=start, packages=()))
    return opened


def without_cuda(monkeypatch: pytest.MonkeyPatch) -> None:
    def problem(device: str) -> str | None:
        return "there is no CUDA here" if device.startswith("cuda") else None

    monkeypatch.setitem(ENGINES, "torch", replace(ENGINES["torch"], device_problem=problem))


def with_cuda(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(
        ENGINES, "torch", replace(ENGINES["torch"], device_problem=lambda device: None)
    )


def with_flags(monkeypatch: pytest.MonkeyPatch, *flags: str) -> None:
    """Let the CPU report these flags and no others."""
    monkeypatch.setattr(cpu, "cpu_flags", lambda: frozenset(flags))


def missing(monkeypatch: pytest.MonkeyPatch, *names: str) -> None:
    for name in names:
        spec = replace(ENGINES[name], packages=("no_such_package",))
        monkeypatch.setitem(ENGINES, name, spec)


def test_a_registered_engine_is_a_choice_of_the_settings_and_starts(bundle, monkeypatch):
    with pytest.raises(SettingsError, match="CXR_ENGINE=toy is not one of auto, openvino, torch"):
        parse([], {"CXR_ENGINE": "toy"})
    monkeypatch.setitem(ENGINES, "toy", toy_spec())
    assert parse(["--engine", "toy"], {}).engine == "toy"
    engine = choose_engine(bundle, "toy")
    assert isinstance(engine, Engine)
    assert (engine.name, engine.device) == ("toy", "toy")


def test_only_an_engine_with_saliency_maps_is_a_saliency_engine():
    assert isinstance(ToyEngine("toy"), Engine)
    assert not isinstance(ToyEngine("toy"), SaliencyEngine)


def test_auto_prefers_cuda_then_openvino_then_torch_on_the_cpu(bundle, fakes, monkeypatch):
    with_cuda(monkeypatch)
    choose_engine(bundle)
    without_cuda(monkeypatch)
    choose_engine(bundle)
    missing(monkeypatch, "openvino")
    choose_engine(bundle)
    assert fakes == [("torch", "cuda:0"), ("openvino", "CPU"), ("torch", "cpu")]


def test_auto_falls_back_to_an_engine_that_its_order_does_not_name(bundle, fakes, monkeypatch):
    monkeypatch.setitem(ENGINES, "toy", toy_spec())
    missing(monkeypatch, "openvino", "torch")
    assert choose_engine(bundle).name == "toy"


@pytest.mark.parametrize(
    ("engine", "device", "opened"),
    [
        ("auto", "gpu", ("openvino", "GPU")),
        ("auto", "GPU.1", ("openvino", "GPU.1")),
        ("auto", "npu", ("openvino", "NPU")),
        ("auto", "hetero:gpu,cpu", ("openvino", "HETERO:GPU,CPU")),
        ("auto", "CPU", ("openvino", "CPU")),
        ("auto", "cpu", ("openvino", "CPU")),
        ("auto", "cuda:0", ("torch", "cuda:0")),
        ("auto", "CUDA:1", ("torch", "cuda:1")),
        ("torch", "CPU", ("torch", "cpu")),
        ("torch", "cuda", ("torch", "cuda")),
        ("openvino", "cpu", ("openvino", "CPU")),
    ],
)
def test_a_device_name_selects_its_engine_in_any_case(
    bundle, fakes, monkeypatch, engine, device, opened
):
    with_cuda(monkeypatch)
    choose_engine(bundle, engine, device=device)
    assert fakes == [opened]


@pytest.mark.parametrize(
    ("engine", "device"), [("openvino", "cuda:0"), ("torch", "GPU"), ("auto", "cpux")]
)
def test_a_device_of_another_runtime_is_refused_by_name(bundle, fakes, engine, device):
    with pytest.raises(EngineUnavailable, match=f"has no device {device}, only"):
        choose_engine(bundle, engine, device=device)
    assert fakes == []


def test_auto_lists_every_reason_once(bundle, fakes, monkeypatch):
    missing(monkeypatch, "openvino", "torch")
    with pytest.raises(EngineUnavailable) as caught:
        choose_engine(bundle)
    assert str(caught.value) == (
        "torch is not installed: pip install './server[torch]'; "
        "openvino is not installed: pip install openvino"
    )


def test_an_unknown_engine_is_refused_with_the_choices(bundle):
    with pytest.raises(EngineUnavailable, match="must be one of auto, openvino, torch"):
        choose_engine(bundle, "tensorrt")


def test_a_bundle_without_the_engines_file_says_which_one(bundle, monkeypatch):
    monkeypatch.setitem(ENGINES, "toy", toy_spec(bundle_file="model.toy"))
    assert ENGINES["toy"].why_not(bundle) == "bundle phantom has no model.toy for toy"


def test_an_architecture_that_the_engine_cannot_build_is_refused_by_name(bundle, monkeypatch):
    monkeypatch.setitem(ENGINES, "toy", toy_spec(architectures=()))
    reason = ENGINES["toy"].why_not(bundle)
    assert reason == f"toy has no module for the architecture {bundle.manifest.network.name}"


@pytest.mark.parametrize(
    ("message", "told"),
    [
        ("Exception from core.cpp:129:\n\nthe device is on fire\n", "the device is on fire"),
        (
            "CUDA error: invalid device ordinal\nCUDA kernel errors might be reported later.\n"
            "Compile with `TORCH_USE_CUDA_DSA` to enable device-side assertions.\n",
            "CUDA error: invalid device ordinal",
        ),
        ("", "RuntimeError"),
    ],
)
def test_an_engine_that_fails_to_start_is_reported_by_the_line_that_says_why(
    bundle, monkeypatch, message, told
):
    def fail(*args: object) -> Engine:
        raise RuntimeError(message)

    monkeypatch.setitem(ENGINES, "toy", toy_spec(open=fail))
    with pytest.raises(EngineUnavailable) as caught:
        choose_engine(bundle, "toy")
    assert str(caught.value) == f"toy does not start on toy: {told}"


@pytest.mark.torch
@pytest.mark.parametrize(
    ("count", "device", "reason"),
    [
        (1, "cuda:1", "torch cannot use cuda:1: it finds cuda:0"),
        (2, "cuda:2", "torch cannot use cuda:2: it finds cuda:0, cuda:1"),
        (0, "cuda:0", "torch cannot use cuda:0: it finds no CUDA device"),
        (1, "cuda", None),
        (2, "cuda:1", None),
    ],
)
def test_a_cuda_device_that_is_not_there_is_named_with_those_that_are(
    bundle, monkeypatch, count, device, reason
):
    import torch

    with monkeypatch.context() as patch:
        patch.setattr(Path, "exists", lambda path: True)  # an NVIDIA driver
        patch.setattr(torch.cuda, "is_available", lambda: count > 0)
        patch.setattr(torch.cuda, "device_count", lambda: count)
        assert ENGINES["torch"].why_not(bundle, device) == reason


def test_a_lower_precision_is_used_only_where_it_is_asked_for_and_possible(
    bundle, fakes, monkeypatch
):
    with_flags(monkeypatch, "avx512_bf16")
    with_cuda(monkeypatch)
    choose_engine(bundle, precision="float16")
    without_cuda(monkeypatch)
    with pytest.raises(EngineUnavailable) as caught:
        choose_engine(bundle, precision="float16")
    assert fakes == [("torch", "cuda:0")]
    for name, device in (("openvino", "CPU"), ("torch", "cpu")):
        assert f"{name} on {device} computes in float32 only, not in float16" in str(caught.value)


def test_openvino_computes_in_bfloat16_where_the_cpu_has_amx(bundle, fakes, monkeypatch):
    without_cuda(monkeypatch)
    with_flags(monkeypatch, "amx_bf16")
    choose_engine(bundle, precision="bfloat16")
    assert fakes == [("openvino", "CPU")]
    for precision, device in (("float16", "CPU"), ("bfloat16", "AUTO")):
        with pytest.raises(EngineUnavailable, match=f"openvino on {device} computes in float32 "):
            choose_engine(bundle, "openvino", device=device, precision=precision)
    with_flags(monkeypatch, "avx512_bf16")
    with pytest.raises(EngineUnavailable, match="computes in float32 only, not in bfloat16"):
        choose_engine(bundle, "openvino", precision="bfloat16")


def test_openvino_runs_the_phantom_in_the_precision_that_was_asked_for_or_not_at_all(
    bundle, monkeypatch
):
    with_flags(monkeypatch, "amx_bf16")
    asked = partial(choose_engine, bundle, "openvino", threads=1, precision="bfloat16")
    if "BF16" in cpu.openvino_capabilities():
        engine = asked()
        assert engine.precision == "bfloat16"
        engine.close()
    else:
        with pytest.raises(EngineUnavailable, match="computes in float32, though asked for bfloat"):
            asked()


def test_an_engine_that_falls_back_to_another_precision_is_closed_and_refused(bundle, monkeypatch):
    closed = []

    class FallsBack(ToyEngine):
        def close(self) -> None:
            closed.append(self)

    spec = toy_spec(
        open=lambda bundle, options: FallsBack(options.device),
        reduced_precisions=lambda device: PRECISIONS[1:],
    )
    monkeypatch.setitem(ENGINES, "toy", spec)
    with pytest.raises(EngineUnavailable, match="toy on toy computes in float32, though asked for"):
        choose_engine(bundle, "toy", precision="bfloat16")
    assert closed


def test_an_engine_gets_every_option(bundle, monkeypatch, tmp_path):
    given: list[EngineOptions] = []

    def start(_: Bundle, options: EngineOptions) -> Engine:
        given.append(options)
        return ToyEngine(options.device, precision=options.precision)

    reduced = lambda device: PRECISIONS[1:]  # noqa: E731
    monkeypatch.setitem(ENGINES, "toy", toy_spec(open=start, reduced_precisions=reduced))
    choose_engine(bundle, "toy", cache_dir=tmp_path, threads=3, precision="float16")
    choose_engine(bundle, "toy")
    assert given == [
        EngineOptions(device="toy", cache_dir=tmp_path, threads=3, precision="float16"),
        EngineOptions(device="toy"),
    ]
    assert given[1].precision == "float32"


@pytest.mark.parametrize("device", ["AUTO", "cpu"])
def test_openvino_runs_the_phantom_on_the_device_that_was_named(bundle, device):
    engine = choose_engine(bundle, "openvino", device=device, threads=1)
    side_px = bundle.manifest.input_side_px
    assert engine.device == device.upper()
    assert np.isfinite(engine.evidence(np.zeros((1, 1, side_px, side_px), np.float32))).all()
    engine.close()


def test_a_device_that_is_not_there_is_reported_in_one_line(bundle):
    with pytest.raises(EngineUnavailable, match=r"openvino does not start on GPU\.7: ") as caught:
        choose_engine(bundle, "openvino", device="gpu.7")
    assert "\n" not in str(caught.value)
