"""Int8: OpenVINO graph and images -> the graph with quantised features, by NNCF. Next: write.

NNCF and OpenVINO's converter report usage to a web service by the package openvino_telemetry. It
is out of reach once `openvino_runtime` is imported, so that NNCF finds none and reports nothing.
"""

import io
import logging
from collections.abc import Sequence
from contextlib import redirect_stdout
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cxr_server.errors import OperatorError
from cxr_server.inference.engines.openvino_runtime import openvino


class QuantizerMissing(OperatorError):
    """NNCF is not installed. The message says how to get it."""


def require_nncf() -> str:
    """Return NNCF's name and version. Raises QuantizerMissing."""
    if find_spec("nncf") is None:
        raise QuantizerMissing("int8 needs NNCF: pip install './server[int8]'")
    return f"NNCF {version('nncf')}"


def quantized(path: Path, images: Sequence[NDArray[np.float32]]) -> Any:
    """Return the graph of a bundle with its convolutions quantised, but for two.

    `images` [1, S, S] calibrate the ranges of activations, which are the extremes that were seen.
    The last convolution, which gives the evidence, stays in float, and the first, for which films
    of up to 16 bits would be cut to 8; both are cheap. So do the embedding and the normalisations
    between concatenation and convolution, where features of all layers before would share one
    scale. Weights have seven bits, so that sums of 16 bits do not overflow on CPUs without VNNI.
    """
    require_nncf()
    import nncf
    from nncf.quantization.range_estimator import RangeEstimatorParametersSet

    nncf.set_log_level(logging.ERROR)
    model = openvino.Core().read_model(path)
    ends = [result.input_value(0).get_node() for result in model.get_results()]
    ends += [target.get_node() for target in model.input().get_target_inputs()]
    with redirect_stdout(io.StringIO()):  # progress bars
        return nncf.quantize(
            model,
            nncf.Dataset([image_chw[None] for image_chw in images]),
            subset_size=len(images),
            preset=nncf.QuantizationPreset.MIXED,
            ignored_scope=nncf.IgnoredScope(
                names=[node.friendly_name for node in ends], types=["Multiply"]
            ),
            advanced_parameters=nncf.AdvancedQuantizationParameters(
                overflow_fix=nncf.OverflowFix.ENABLE,
                # On phantoms, largest differences were smaller without.
                disable_bias_correction=True,
                activations_range_estimator_params=RangeEstimatorParametersSet.MINMAX,
            ),
        )
