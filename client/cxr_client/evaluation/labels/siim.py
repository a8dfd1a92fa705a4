"""SIIM-ACR Pneumothorax Segmentation: train-rle.csv, a row for each mask."""

from pathlib import Path

import numpy as np

from cxr_client.evaluation.labels.label_set import Choices, LabelError, LabelSet, stem_of
from cxr_client.evaluation.labels.tables import read_columns


def read(path: Path, _: Choices) -> LabelSet:
    """Read the labels of images: a mask means pneumothorax, -1 means none.

    Raises:
        LabelError: The file is not of this format.
    """
    table = read_columns(path, ["ImageId", "EncodedPixels"])
    masks: dict[str, list[str]] = {}
    for image, mask in zip(*table.values(), strict=True):
        masks.setdefault(image.strip(), []).append(mask.strip())
    mixed = [image for image, each in masks.items() if "-1" in each and len(set(each)) > 1]
    if mixed:
        raise LabelError(f"{path}: the image {mixed[0]} has both a mask and -1")
    labels = np.array([each[0] != "-1" for each in masks.values()], np.float32)
    return LabelSet(
        title="SIIM-ACR Pneumothorax",
        keys=tuple(masks),
        findings={"Pneumothorax": labels},
        key_of=stem_of,
        choices=("An image with a mask is positive for Pneumothorax, one with -1 is negative.",),
        cautions=(
            "The file has no patients, so intervals treat every image as a separate patient.",
        ),
        # The challenge's images were taken from NIH ChestX-ray14.
        datasets=("siim", "nih"),
    )
