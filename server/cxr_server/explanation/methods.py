"""Explanation methods: evidence of one finding -> HeatMap. The registry of what Explain offers.

To add a method: a value of `ExplanationMethod` in the contract and here. Either a `SaliencyEngine`
computes it, or its closed form is registered in `METHODS`.
"""

from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum

import numpy as np
from numpy.typing import NDArray

from cxr_server.explanation.heatmap import HeatMap, HeatScale, from_evidence
from cxr_server.inference.engines import Engine, SaliencyEngine


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
    the scale. It is None for a method that a `SaliencyEngine` computes.
    """

    name: ExplanationMethod
    closed_form: Callable[[NDArray[np.float32], int, HeatScale], HeatMap] | None = None

    @property
    def needs_engine(self) -> bool:
        """Whether the engine computes it from the network's input, which may take minutes."""
        return self.closed_form is None

    def why_not(self, engine: Engine) -> str | None:
        """Return why the method cannot be used with an engine, or None if it can."""
        if self.closed_form:
            return None
        if isinstance(engine, SaliencyEngine) and self.name in engine.saliency_methods:
            return None
        return (
            f"{self.name} needs the torch engine and the package grad-cam: install "
            "cxr-server[torch] and start the server with --engine torch"
        )


METHODS = {name: MethodSpec(name) for name in ExplanationMethod}
METHODS[ExplanationMethod.GRAD_CAM] = MethodSpec(ExplanationMethod.GRAD_CAM, from_evidence)


def available(engine: Engine) -> tuple[ExplanationMethod, ...]:
    """Return the methods that can be used with an engine."""
    return tuple(name for name, spec in METHODS.items() if spec.why_not(engine) is None)
