"""The registry of methods, and the explanations made with it one by one."""

import dataclasses
from collections.abc import Callable

import numpy as np
import pytest
from PIL import Image

from cxr_server.bundles.load import load_bundle
from cxr_server.bundles.store import PHANTOM_PATH
from cxr_server.explanation.heatmap import HeatMap
from cxr_server.explanation.methods import (
    METHODS,
    Explanation,
    ExplanationMethod,
    MethodSpec,
    available,
    explain,
)
from cxr_server.explanation.options import RenderFormat, RenderFrame, RenderKind, RenderOptions
from cxr_server.imaging.radiograph import Radiograph
from cxr_server.inference.engines import Engine, SaliencyEngine
from cxr_server.inference.model_input import Evidence, ImageFacts
from cxr_server.inference.preprocess import XRV
from cxr_server.inference.scoring import Finding
from images import chest_like, pixels_of

LABELS = ("Effusion", "Mass", "Nodule")
RADIOGRAPH = Radiograph(chest_like(300, 400), 255, "PNG", 8)
MODEL = load_bundle(PHANTOM_PATH).manifest
ROWS = {label: row for row, label in enumerate(MODEL.labels)}
FINDINGS = {label: Finding(label, row, 0.1 * row, 0.5, 0.5, 0.5) for label, row in ROWS.items()}
EVIDENCE = Evidence(
    np.random.default_rng(5).normal(0, 3, (len(ROWS), 7, 7)).astype(np.float32),
    tuple(reversed(FINDINGS.values())),  # best first, which is another order than that of rows
    chest_like(96, 96),
    ImageFacts("PNG", 8, 300, 400, XRV.crop(300, 400)),
    (),
)


class PlainEngine:
    """Evidence and nothing else."""

    name, device, precision, max_batch, max_in_flight = "plain", "CPU", "float32", 1, 1

    def evidence(self, batch_nchw: np.ndarray) -> np.ndarray:
        return np.zeros((len(batch_nchw), 3, 7, 7), np.float32)

    def close(self) -> None:
        pass


class GradientEngine(PlainEngine):
    """Offers one of the methods; a map is hot in the pixel (row, row)."""

    saliency_methods = ("LAYER_CAM",)

    def saliency(
        self, image_chw: np.ndarray, row: int, method: str, check: Callable[[], None]
    ) -> np.ndarray:
        assert method in self.saliency_methods
        saliency_hw = np.zeros(image_chw.shape[1:], np.float32)
        saliency_hw[row, row] = 0.5
        return saliency_hw


def explained(*labels: str, engine: Engine | None = None, **options: object) -> list[Explanation]:
    engine = engine or PlainEngine()
    return list(explain(EVIDENCE, labels, model=MODEL, engine=engine, **options))


def test_the_engines_are_what_they_claim() -> None:
    assert isinstance(PlainEngine(), Engine)
    assert not isinstance(PlainEngine(), SaliencyEngine)
    assert isinstance(GradientEngine(), SaliencyEngine)


def test_every_method_of_the_contract_is_registered() -> None:
    assert set(METHODS) == set(ExplanationMethod)
    assert all(spec.name is name for name, spec in METHODS.items())


def test_only_the_closed_form_needs_no_engine() -> None:
    closed = [name for name, spec in METHODS.items() if not spec.needs_engine]
    assert closed == [ExplanationMethod.GRAD_CAM]


def test_what_is_available_depends_on_the_engine_which_says_why_not() -> None:
    assert available(PlainEngine()) == (ExplanationMethod.GRAD_CAM,)
    assert available(GradientEngine()) == (
        ExplanationMethod.GRAD_CAM,
        ExplanationMethod.LAYER_CAM,
    )
    spec = METHODS[ExplanationMethod.LAYER_CAM]
    assert spec.why_not(GradientEngine()) is None
    why = spec.why_not(PlainEngine())
    assert why is not None
    assert "LAYER_CAM" in why
    assert "--engine torch" in why
    assert METHODS[ExplanationMethod.SCORE_CAM].why_not(GradientEngine()) is not None


def test_a_method_of_the_engine_gets_the_image_and_the_findings_row() -> None:
    image_chw = np.zeros((1, 96, 96), np.float32)
    found = explained(
        "Nodule",
        "Mass",
        engine=GradientEngine(),
        method=ExplanationMethod.LAYER_CAM,
        image_chw=image_chw,
    )
    for each in found:
        row = ROWS[each.finding.label]
        assert each.method is ExplanationMethod.LAYER_CAM
        assert each.peak is not None
        # Pixel (row, row) of 96, in the crop of 300 that begins at x = 50.
        assert each.peak.x_px == pytest.approx(50 + (row + 0.5) * 300 / 96)
        assert each.peak.y_px == pytest.approx((row + 0.5) * 300 / 96)


@pytest.mark.parametrize("method", list(ExplanationMethod))
def test_a_finding_without_evidence_has_an_empty_map_whatever_the_method(
    method: ExplanationMethod,
) -> None:
    """A relative map of noise would have full colour; nor is the time for it spent."""
    evidence = dataclasses.replace(EVIDENCE, evidence_khw=EVIDENCE.evidence_khw * 1e-3)
    options = RenderOptions(kind=RenderKind.HEATMAP)
    (only,) = explain(
        evidence,
        ["Mass"],
        model=MODEL,
        engine=PlainEngine(),
        method=method,
        options=options,
    )
    assert only.no_positive_evidence
    assert (only.peak, only.regions) == (None, ())
    assert not np.ptp(pixels_of(only.heatmap), axis=(0, 1)).any()


def test_a_method_is_added_by_one_function_and_one_registration(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def centre(evidence_hw: np.ndarray, side_px: int, full: float | None) -> HeatMap:
        values_hw = np.zeros((side_px, side_px), np.float32)
        values_hw[side_px // 2, side_px // 2] = 1
        return HeatMap(values_hw, 0, 1, (side_px // 2, side_px // 2), in_logits=False)

    toy = MethodSpec(ExplanationMethod.EIGEN_CAM, centre)
    monkeypatch.setitem(METHODS, toy.name, toy)
    assert toy.name in available(PlainEngine())
    (only,) = explained("Mass", method=toy.name)
    assert only.peak is not None
    assert (only.peak.x_px, only.peak.y_px) == pytest.approx((200, 150), abs=2)
    assert only.method is toy.name


def test_explanations_come_in_the_order_asked_for_with_their_numbers() -> None:
    found = explained("Nodule", "Effusion")
    assert [each.finding for each in found] == [FINDINGS["Nodule"], FINDINGS["Effusion"]]
    for each in found:
        assert np.array_equal(each.evidence_hw, EVIDENCE.evidence_khw[ROWS[each.finding.label]])
        assert each.peak is not None
        assert each.regions
        assert pixels_of(each.heatmap).shape == (96, 96, 3)
    assert found[0].heatmap != found[1].heatmap


def test_only_the_chosen_labels_are_drawn_and_all_have_their_numbers() -> None:
    everything = explained(*LABELS)
    chosen = explained(*LABELS, heatmap_labels=["Mass"])
    assert [bool(each.heatmap) for each in everything] == [True, True, True]
    assert [each.heatmap for each in chosen] == [b"", everything[1].heatmap, b""]
    assert [each.peak for each in chosen] == [each.peak for each in everything]
    assert [each.regions for each in chosen] == [each.regions for each in everything]


def test_without_a_picture_there_are_numbers_alone() -> None:
    options = RenderOptions(kind=RenderKind.NONE)
    for each in explained(*LABELS, options=options):
        assert each.heatmap == b""
        assert each.peak is not None


def test_a_map_is_made_when_it_is_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    made = []

    def counted(evidence_hw: np.ndarray, side_px: int, full: float | None) -> HeatMap:
        made.append(evidence_hw)
        return HeatMap(np.zeros((side_px, side_px), np.float32), 0, 1, None)

    monkeypatch.setitem(
        METHODS, ExplanationMethod.GRAD_CAM, MethodSpec(ExplanationMethod.GRAD_CAM, counted)
    )
    steps = explain(EVIDENCE, LABELS, model=MODEL, engine=PlainEngine())
    assert len(made) == 0
    next(steps)
    assert len(made) == 1


@pytest.mark.parametrize("file_format", list(RenderFormat))
def test_the_original_is_drawn_from_the_radiograph(file_format: RenderFormat) -> None:
    options = RenderOptions(frame=RenderFrame.ORIGINAL, format=file_format, opacity=0)
    (only,) = explained("Mass", options=options, whole_hw=RADIOGRAPH.display_hw())
    picture = pixels_of(only.heatmap)
    assert Image.fromarray(picture).size == (400, 300)
    difference = np.abs(picture.astype(int) - RADIOGRAPH.pixels_hw[..., None])
    assert difference.mean() <= (0 if file_format is RenderFormat.PNG else 3)
