"""Caption: the description of a picture, for its legend and its file."""

import json
import math
from dataclasses import dataclass

from cxr_server.bundles.manifest import Manifest
from cxr_server.explanation.heatmap import HeatMap
from cxr_server.explanation.options import HeatScale
from cxr_server.inference.scoring import Finding


@dataclass(frozen=True, slots=True, kw_only=True)
class Caption:
    """A picture's finding, model, method and scale; the engine computes in `precision`."""

    finding: Finding
    model: Manifest
    precision: str
    method: str
    scale: HeatScale
    heat: HeatMap

    @property
    def unit(self) -> str:
        """The unit of the scale's limits."""
        return "evidence (logits)" if self.heat.in_logits else "relative heat"

    @property
    def limits(self) -> tuple[str, str, str]:
        """No heat, half and full heat, as text; a fixed scale is cut off at its top."""
        low, high = self.heat.low, self.heat.high
        digits = 2 - math.floor(math.log10(high))  # three significant ones of the highest
        least, middle, most = (
            f"{round(value, digits):g}" for value in (low, (low + high) / 2, high)
        )
        return least, middle, (">= " if self.scale is HeatScale.FIXED else "") + most

    def to_json(self) -> bytes:
        """Return it as a JSON object in ASCII."""
        fields = {
            "finding": self.finding.label,
            "score": round(self.finding.score, 6),
            "method": self.method,
            "model": self.model.name,
            "version": self.model.version,
            "weights_sha256": self.model.weights_sha256,
            "precision": self.precision,
            "scale": self.scale,
            "low": self.heat.low,
            "high": self.heat.high,
            "unit": self.unit,
            "notice": self.model.notice,
        }
        return json.dumps(fields).encode()
