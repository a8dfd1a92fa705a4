"""Explanation methods: Evidence -> HeatMap -> Explanation, by one of the registered methods.

To add a method: a value of `ExplanationMethod` in the contract and here. Either a `SaliencyEngine`
computes it, or its closed form is registered in `METHODS`.
"""

from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum

import numpy as np
from numpy.typing import NDArray

from cxr_server.bundles.manifest import Manifest
from cxr_server.explanation.caption import Caption
from cxr_server.explanation.heatmap import (
    HeatMap,
    from_evidence,
    from_saliency,
    has_evidence,
    no_heat,
)
from cxr_server.explanation.options import RenderOptions
from cxr_server.explanation.regions import Peak, Region, peak, regions
from cxr_server.explanation.render import Renderer
from cxr_server.inference.engines import Engine, SaliencyEngine
from cxr_server.inference.model_input import Evidence
from cxr_server.inference.scoring import Finding


class ExplanationMethod(StrEnum):
    """How a heat map is made; see `ExplanationMethod` in the contract."""

    GRAD_CAM = "GRAD_CAM"
    GRAD_CAM_PLUS_PLUS = "GRAD_CAM_PLUS_PLUS"
    LAYER_CAM = "LAYER_CAM"
    EIGEN_CAM = "EIGEN_CAM"
    SCORE_CAM = "SCORE_CAM"


@dataclass(frozen=True, slots=True)
class MethodSpec:
    """One entry of the registry.

    The closed form makes the map of a finding out of its evidence [h, w], the side of the map and
    the evidence of full heat, which is None if each map has a scale of its own. It is None for a
    method that a `SaliencyEngine` computes: such maps are relative, without a fixed scale.
    """

    name: ExplanationMethod
    closed_form: Callable[[NDArray[np.float32], int, float | None], HeatMap] | None = None

    @property
    def needs_engine(self) -> bool:
        """Whether the engine computes it from the network's input, which may take minutes."""
        return self.closed_form is None

    def why_not(self, engine: Engine) -> str | None:
        """Return why the method cannot be used with an engine, or None if it can."""
        if self.closed_form:  # first: `isinstance` with a protocol takes 15 us and more
            return None
        if isinstance(engine, SaliencyEngine) and self.name in engine.saliency_methods:
            return None
        return (
            f"{self.name} needs the torch engine and the package grad-cam: install the server's "
            "torch extra and start the server with --engine torch"
        )


METHODS = {name: MethodSpec(name) for name in ExplanationMethod}
METHODS[ExplanationMethod.GRAD_CAM] = MethodSpec(ExplanationMethod.GRAD_CAM, from_evidence)


def available(engine: Engine) -> tuple[ExplanationMethod, ...]:
    """Return the methods that can be used with an engine."""
    return tuple(name for name, spec in METHODS.items() if spec.why_not(engine) is None)


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
    labels: Sequence[str],
    *,
    model: Manifest,
    engine: Engine,
    method: ExplanationMethod = ExplanationMethod.GRAD_CAM,
    options: RenderOptions = RenderOptions(),  # noqa: B008 -- frozen
    heatmap_labels: Collection[str] = (),
    image_chw: NDArray[np.float32] | None = None,
    whole_hw: NDArray[np.uint8] | None = None,
    check: Callable[[], None] = lambda: None,
) -> Iterator[Explanation]:
    """Explain findings in the order of `labels`. Blocks; each step makes and draws one map.

    Without `heatmap_labels` every map is drawn. `image_chw`, the network's input, is given if
    `MethodSpec.needs_engine`; `whole_hw`, the whole image as a picture, if
    `RenderOptions.needs_whole`. `check`, called between the parts of a step, raises to end the
    work.
    """
    found = {finding.label: finding for finding in evidence.findings}
    spec, side_px = METHODS[method], evidence.picture_hw.shape[0]
    renderer = Renderer(evidence, options, whole_hw)
    for label in labels:
        row = model.labels.index(label)
        finding, evidence_hw = found[label], evidence.evidence_khw[row]
        if spec.closed_form:
            heat = spec.closed_form(evidence_hw, side_px, options.full_scale_logits)
        elif not has_evidence(evidence_hw):
            # A relative map would stretch noise to full colour.
            heat = no_heat(side_px, 1.0, in_logits=False)
        else:
            assert isinstance(engine, SaliencyEngine)
            assert image_chw is not None
            heat = from_saliency(engine.saliency(image_chw, row, method, check))
        check()
        heatmap = b""
        if label in (heatmap_labels or labels):
            caption = Caption(
                finding=finding,
                model=model,
                precision=engine.precision,
                method=method,
                scale=options.scale,
                heat=heat,
            )
            heatmap = renderer.render(caption)
        yield Explanation(
            finding=finding,
            heatmap=heatmap,
            evidence_hw=evidence_hw,
            peak=peak(heat, evidence.facts.crop),
            regions=regions(heat, evidence.facts.crop),
            no_positive_evidence=heat.peak_row_column is None,
            method=method,
        )
