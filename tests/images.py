"""Image files for tests, made in memory."""

from functools import lru_cache
from io import BytesIO

import numpy as np
from PIL import Image


def chest_like(height_px: int = 256, width_px: int = 256, seed: int = 0) -> np.ndarray:
    """A smooth grey picture with the rough layout of a chest film, uint8 [H, W]."""
    return _chest_like(height_px, width_px, seed).copy()


@lru_cache(maxsize=32)
def _chest_like(height_px: int, width_px: int, seed: int) -> np.ndarray:
    # Each bump is the product of a row and a column: exponentials of all pixels would be slow.
    y_h1 = np.arange(height_px)[:, None] / height_px - 0.5
    x_w = np.arange(width_px) / width_px - 0.5
    body = 190 * np.exp(-((y_h1 / 0.6) ** 8)) * np.exp(-((x_w / 0.42) ** 8))
    sides_w = sum(np.exp(-(((x_w - side) / 0.13) ** 2)) for side in (-0.2, 0.2))
    lungs = np.exp(-(((y_h1 + 0.02) / 0.27) ** 2)) * sides_w
    noise = np.random.default_rng(seed).normal(0, 4, (height_px, width_px))
    return np.clip(body * (1 - 0.75 * lungs) + 20 + noise, 0, 255).astype(np.uint8)


def png(pixels: np.ndarray | None = None, **options: object) -> bytes:
    return encoded(pixels, "PNG", **options)


def jpeg(pixels: np.ndarray | None = None, **options: object) -> bytes:
    return encoded(pixels, "JPEG", **options)


def encoded(pixels: np.ndarray | None, file_format: str, **options: object) -> bytes:
    file = BytesIO()
    pixels = chest_like() if pixels is None else pixels
    Image.fromarray(pixels).save(file, file_format, **options)
    return file.getvalue()


def pixels_of(file: bytes) -> np.ndarray:
    """The pixels of an image file, in the mode that it has."""
    with Image.open(BytesIO(file)) as image:
        return np.asarray(image)
