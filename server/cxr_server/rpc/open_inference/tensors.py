"""Tensors: image files as elements of a BYTES tensor, and findings as output tensors."""

import math
import struct
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from cxr_server.errors import InvalidField
from cxr_server.results import PredictResult
from cxr_server.rpc.open_inference import open_inference_pb2 as oip

MAX_IMAGES = 64
"""Images of one call: its memory and time stay those of a call."""


def images_of(request: oip.ModelInferRequest) -> list[bytes]:
    """Return the image files of a request's only input, BYTES of shape [N] or [N, 1].

    They are in `contents.bytes_contents`, as OpenVINO Model Server takes them, or in
    `raw_input_contents`, as Triton's clients send them: each after its length, 4 bytes, little
    endian. Raises InvalidField.
    """
    if [tensor.name for tensor in request.inputs] != ["image"]:
        raise InvalidField("inputs must be one tensor named image", field="inputs")
    (tensor,) = request.inputs
    if tensor.datatype != "BYTES":
        message = "datatype must be BYTES: whole DICOM, PNG or JPEG files"
        raise InvalidField(message, field="inputs[0].datatype")
    if len(request.raw_input_contents) > 1:
        message = "raw_input_contents must have one element, as inputs has"
        raise InvalidField(message, field="raw_input_contents")
    count = _count(tuple(tensor.shape))
    if request.raw_input_contents:
        images = list(_split(request.raw_input_contents[0]))
    else:
        images = list(tensor.contents.bytes_contents)
    if len(images) != count:
        message = f"shape is of {count} elements, and {len(images)} were sent"
        raise InvalidField(message, field="inputs[0].shape")
    return images


def _count(shape: tuple[int, ...]) -> int:
    if len(shape) not in (1, 2) or shape[1:] not in ((), (1,)):
        message = "shape must be [N] or [N, 1], one element for each image file"
        raise InvalidField(message, field="inputs[0].shape")
    if not 1 <= shape[0] <= MAX_IMAGES:
        raise InvalidField(f"N must be from 1 to {MAX_IMAGES}", field="inputs[0].shape")
    return math.prod(shape)


def _split(raw: bytes) -> Iterator[bytes]:
    start = 0
    while start < len(raw):
        end = start + 4
        if end <= len(raw):
            (size,) = struct.unpack_from("<I", raw, start)
            end += size
        if end > len(raw):
            message = "raw_input_contents ends within an element, or lengths are not in front"
            raise InvalidField(message, field="raw_input_contents")
        yield raw[start + 4 : end]
        start = end


@dataclass(frozen=True, slots=True)
class OutputTensor:
    """An output: its type, its shape for N images and K findings, and how its bytes are made.

    The results are one for each image; labels are in the order of the last axis.
    """

    name: str
    datatype: str
    axes: str
    pack: Callable[[Sequence[PredictResult], tuple[str, ...]], bytes]

    def shape(self, images: int, findings: int) -> list[int]:
        """Return the shape; -1 for any number of images."""
        return [{"N": images, "K": findings}[axis] for axis in self.axes]


def _floats(value: str) -> Callable[[Sequence[PredictResult], tuple[str, ...]], bytes]:
    def pack(results: Sequence[PredictResult], labels: tuple[str, ...]) -> bytes:
        by_label = [{found.label: found for found in result.findings} for result in results]
        rows = [[getattr(row[label], value) for label in labels] for row in by_label]
        return np.array(rows, "<f4").tobytes()

    return pack


def _strings(texts: Sequence[str]) -> bytes:
    encoded = [text.encode() for text in texts]
    return b"".join(struct.pack("<I", len(each)) + each for each in encoded)


OUTPUTS: dict[str, OutputTensor] = {
    output.name: output
    for output in (
        OutputTensor("scores", "FP32", "NK", _floats("score")),
        OutputTensor("probabilities", "FP32", "NK", _floats("probability")),
        OutputTensor("labels", "BYTES", "K", lambda _, labels: _strings(labels)),
        OutputTensor(
            "warnings",
            "BYTES",
            "N",
            lambda results, _: _strings([",".join(result.warnings) for result in results]),
        ),
    )
}
"""What the model answers, in this order where a request names no outputs."""
