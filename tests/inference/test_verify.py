"""An engine is served only if it gives the scores that the bundle states for its own image."""

from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import msgspec
import numpy as np
import pytest
from structlog.testing import capture_logs

from cxr_server.bundles.load import Bundle, load_bundle
from cxr_server.bundles.manifest import BundleError, Probe
from cxr_server.bundles.store import PHANTOM_PATH
from cxr_server.inference.engines import DeviceLost, Engine
from cxr_server.inference.engines.registry import (
    ENGINES,
    PRECISIONS,
    EngineUnavailable,
    choose_engine,
)
from cxr_server.inference.scoring import logits
from cxr_server.inference.supervisor import start_verified
from cxr_server.inference.verify import REDUCED_TOLERANCE, TOLERANCE, verify_engine
from cxr_server.lifecycle import Lifecycle
from cxr_server.observability.metrics import Metrics
from cxr_server.service import InferenceService
from cxr_server.settings import parse

Change = Callable[[np.ndarray], np.ndarray]


class Wrong:
    """The real engine, whose evidence is changed."""

    name, device, max_in_flight = "wrong", "cuda:7", 1

    def __init__(self, right: Engine, change: Change, max_batch: int = 1) -> None:
        self._right, self._change = right, change
        self.max_batch, self.precision = max_batch, "float16"

    def evidence(self, batch_nchw: np.ndarray) -> np.ndarray:
        return self._change(self._right.evidence(batch_nchw))

    def close(self) -> None: ...


@pytest.fixture(scope="module")
def right(phantom_bundle: Bundle) -> Iterator[Engine]:
    with closing(choose_engine(phantom_bundle, "openvino", threads=1)) as engine:
        yield engine


def with_probe(bundle: Bundle, probe: Probe | msgspec.UnsetType) -> Bundle:
    return replace(bundle, manifest=msgspec.structs.replace(bundle.manifest, probe=probe))


def test_the_shipped_bundle_is_computed_right(right, phantom_bundle):
    assert phantom_bundle.manifest.probe
    difference = verify_engine(right, phantom_bundle)
    assert difference is not None
    assert 0 <= difference < TOLERANCE / 10


def test_the_shipped_probe_would_show_a_small_difference(phantom_bundle):
    """Scores of 0 and 1 would hide one in the logits."""
    scores = np.array(phantom_bundle.manifest.probe.scores)
    assert (scores * (1 - scores)).max() > 0.1


@pytest.mark.parametrize("difference", [0.01, -0.01, 0.002])
def test_scores_that_are_off_are_refused_naming_who_and_how_much(right, phantom_bundle, difference):
    manifest = phantom_bundle.manifest
    middle = int(np.argmin(np.abs(np.array(manifest.probe.scores) - 0.5)))

    def off(evidence: np.ndarray) -> np.ndarray:
        """Shift the logit of the finding nearest to 0.5 so that its score moves."""
        score, t = manifest.probe.scores[middle] + difference, manifest.thresholds[middle]
        p = 2 * t * score if score < 0.5 else 1 - 2 * (1 - t) * (1 - score)  # op_norm, inverted
        moved = evidence.copy()
        moved[:, middle] += np.log(p / (1 - p)) - logits(evidence[0], manifest.bias)[middle]
        return moved

    with pytest.raises(EngineUnavailable) as caught:
        verify_engine(Wrong(right, off), phantom_bundle)
    assert str(caught.value) == (
        "wrong on cuda:7 in float16 does not compute what the bundle phantom states: "
        f"a score of its probe differs by {abs(difference):.1e}, allowed are 1e-03"
    )


def test_a_batch_that_is_wrong_in_one_row_is_refused(right, phantom_bundle):
    def last_of_four(evidence: np.ndarray) -> np.ndarray:
        return np.concatenate([evidence[:3], -evidence[3:]])

    with pytest.raises(EngineUnavailable, match="differs"):
        verify_engine(Wrong(right, last_of_four, max_batch=4), phantom_bundle)
    assert verify_engine(Wrong(right, last_of_four, max_batch=2), phantom_bundle) is not None


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("probed", [True, False])
def test_evidence_that_is_not_finite_is_refused(right, phantom_bundle, value, probed):
    def spoil(evidence: np.ndarray) -> np.ndarray:
        spoilt = evidence.copy()
        spoilt[-1, -1, -1, -1] = value
        return spoilt

    bundle = phantom_bundle if probed else with_probe(phantom_bundle, msgspec.UNSET)
    with pytest.raises(EngineUnavailable, match=r"wrong on cuda:7 in float16 .* not finite"):
        verify_engine(Wrong(right, spoil), bundle)


@pytest.mark.parametrize("error", [RuntimeError, DeviceLost, ValueError])
def test_an_engine_that_fails_is_refused_with_its_reason(right, phantom_bundle, error):
    def fail(_: np.ndarray) -> np.ndarray:
        raise error("CUDA error: out of paper\nadvice")

    with pytest.raises(EngineUnavailable, match=r"warming up: CUDA error: out of paper$"):
        verify_engine(Wrong(right, fail), phantom_bundle)


def test_without_a_probe_any_finite_evidence_is_accepted(right, phantom_bundle):
    engine = Wrong(right, lambda evidence: 0 * evidence)
    assert verify_engine(engine, with_probe(phantom_bundle, msgspec.UNSET)) is None


def test_a_probe_that_is_no_image_is_the_bundles_fault(right, phantom_bundle):
    probe = msgspec.structs.replace(phantom_bundle.manifest.probe, file="openvino/model.xml")
    with pytest.raises(BundleError, match=r"openvino/model\.xml"):
        verify_engine(right, with_probe(phantom_bundle, probe))


def test_a_probe_of_a_bundle_of_ones_own_is_checked(tiny_bundle: Path):
    bundle = load_bundle(tiny_bundle)
    with closing(choose_engine(bundle, "openvino", threads=1)) as engine:
        assert verify_engine(engine, bundle) is not None
        with pytest.raises(EngineUnavailable, match="differs"):
            verify_engine(Wrong(engine, lambda evidence: evidence + 1), bundle)


@pytest.mark.torch
async def test_a_reduced_precision_may_miss_the_probe_by_more_but_not_by_much(monkeypatch):
    spec = replace(ENGINES["torch"], reduced_precisions=lambda device: PRECISIONS[1:])
    monkeypatch.setitem(ENGINES, "torch", spec)
    flags = ["--engine", "torch", "--device", "cpu", "--decode-processes", "0", "--precision"]
    service = InferenceService(parse([*flags, "float16"], env={}), Lifecycle(), Metrics(), int)
    with capture_logs() as lines:
        await service.load()
    (started,) = (line for line in lines if line["event"] == "engine started")
    assert TOLERANCE < started["largest_difference"] < REDUCED_TOLERANCE
    assert service.describe().precision == service.health().precision == "float16"
    await service.close()
    service = InferenceService(parse([*flags, "bfloat16"], env={}), Lifecycle(), Metrics(), int)
    with pytest.raises(EngineUnavailable, match="torch on cpu in bfloat16 does not compute"):
        await service.load()


async def test_a_precision_that_the_engine_does_not_have_is_refused():
    flags = ["--engine", "openvino", "--precision", "float16"]
    service = InferenceService(parse(flags, env={}), Lifecycle(), Metrics(), lambda: 0)
    with pytest.raises(EngineUnavailable, match=r"openvino on CPU computes in float32 .*only, not"):
        await service.load()


@pytest.mark.parametrize(
    ("path", "level"), [(PHANTOM_PATH, "info"), (None, "warning")], ids=["probe", "no probe"]
)
def test_the_log_tells_what_was_started_and_whether_it_was_verified(unprobed_bundle, path, level):
    with capture_logs() as lines:
        start_verified(load_bundle(path or unprobed_bundle), "openvino", threads=1).close()
    (line,) = lines
    assert line["log_level"] == level
    assert (line["engine"], line["device"], line["precision"]) == ("openvino", "CPU", "float32")
    assert ("largest_difference" in line) == (level == "info")
