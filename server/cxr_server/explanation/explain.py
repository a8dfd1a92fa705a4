"""Explain: Evidence -> one Explanation for each finding asked for."""

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from cxr_server.explanation.heatmap import from_saliency
from cxr_server.explanation.methods import METHODS, ExplanationMethod
from cxr_server.explanation.regions import Peak, Region, peak, regions
from cxr_server.explanation.render import RenderOptions, make_backdrop, render
from cxr_server.imaging.radiograph import Radiograph
from cxr_server.inference.engines import Engine, SaliencyEngine
from cxr_server.inference.model_input import Evidence
from cxr_server.inference.scoring import Finding


@dataclass(frozen=True, slots=True, kw_only=True)
class Explanation:
    """The explanation of one finding; see `Explanation` in the contract.

    The heatmap is a file in `RenderOptions.format`, empty if no picture was asked for; the
    evidence [h, w] is signed and in logits, whatever the method.
    """

    finding: Finding
    heatmap: bytes
    evidence_hw: NDArray[np.float32]
    peak: Peak | None
    regions: tuple[Region, ...]
    no_positive_evidence: bool
    method: ExplanationMethod


def explain(
    evidence: Evidence,
    findings: Sequence[Finding],
    labels: Sequence[str],
    *,
    engine: Engine,
    method: ExplanationMethod = ExplanationMethod.GRAD_CAM,
    options: RenderOptions = RenderOptions(),  # noqa: B008 -- frozen
    heatmap_labels: Collection[str] = (),
    image_chw: NDArray[np.float32] | None = None,
    radiograph: Radiograph | None = None,
) -> Iterator[Explanation]:
    """Explain findings one by one. Blocks; each step makes and draws one map.

    Args:
        evidence: What the network made of the image.
        findings: Every finding of the model, in the order of the evidence.
        labels: The findings to explain, in the order wanted.
        engine: The engine in use.
        method: How to make the maps.
        options: How to draw them.
        heatmap_labels: Those of `labels` whose map is drawn; empty for all.
        image_chw: The network's input, if `MethodSpec.needs_engine`.
        radiograph: The whole image, if `RenderOptions.needs_radiograph`.
    """
    rows = {finding.label: row for row, finding in enumerate(findings)}
    spec, side_px = METHODS[method], evidence.picture_hw.shape[0]
    backdrop = make_backdrop(evidence, options, radiograph)
    for label in labels:
        row = rows[label]
        evidence_hw = evidence.evidence_khw[row]
        if spec.closed_form:
            heat = spec.closed_form(evidence_hw, side_px, options.scale)
        else:
            assert isinstance(engine, SaliencyEngine)
            assert image_chw is not None
            heat = from_saliency(engine.saliency(image_chw, row, method))
        drawn = not heatmap_labels or label in heatmap_labels
        yield Explanation(
            finding=findings[row],
            heatmap=render(heat, options, backdrop) if backdrop and drawn else b"",
            evidence_hw=evidence_hw,
            peak=peak(heat, evidence.facts.crop),
            regions=regions(heat, evidence.facts.crop),
            no_positive_evidence=heat.peak_row_column is None,
            method=method,
        )
