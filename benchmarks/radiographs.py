"""Radiographs: phantoms as PNG and JPEG files, any number of different files of each.

Serving time depends on the size of an image, not on its content, so a few phantoms are drawn and
cached. A numbered comment makes the file of every request unique, so that no cache hits.
"""

import struct
import zlib
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from cxr_phantom.draw import draw_phantom

CACHE = Path(__file__).parent / ".cache"
CAMERA_NOISE = 4.0
"""Standard deviation, in grey values: a film of 2373 px then takes 2 MB in quality 95."""
_PNG_IHDR_END = 33


@dataclass(frozen=True, slots=True)
class Kind:
    """A kind of image file, such as 8-bit PNG of 1024 x 1024 px, drawn `films` times.

    JPEG's quality is the typical one in archives of chest radiographs. Cameras write colour, in
    4:2:0, and their sensors add noise.
    """

    name: str
    side_px: int
    file_format: str
    bit_depth: int = 8
    films: int = 3
    quality: int = 92
    by_camera: bool = False


PNG_512 = Kind("512 PNG", 512, "PNG")
PNG_1024 = Kind("1024 PNG", 1024, "PNG")
PNG_2373 = Kind("2373 PNG", 2373, "PNG")
PNG_512_16 = Kind("512 PNG 16-bit", 512, "PNG", 16)
PNG_1024_16 = Kind("1024 PNG 16-bit", 1024, "PNG", 16)
PNG_2373_16 = Kind("2373 PNG 16-bit", 2373, "PNG", 16)
JPEG_512 = Kind("512 JPEG", 512, "JPEG")
JPEG_1024 = Kind("1024 JPEG", 1024, "JPEG")
JPEG_2373 = Kind("2373 JPEG", 2373, "JPEG")
JPEG_CAMERA = Kind("2373 JPEG camera", 2373, "JPEG", quality=95, by_camera=True)
JPEG_224_CAMERA = Kind("224 JPEG camera", 224, "JPEG", quality=95, by_camera=True)
PNG_10_MB = Kind("10 MB PNG", 2900, "PNG", 16, films=1)
PNG_224 = Kind("224 PNG", 224, "PNG")
JPEG_224 = Kind("224 JPEG", 224, "JPEG")
PNG_224_16 = Kind("224 PNG 16-bit", 224, "PNG", 16)
ALL = (
    *(PNG_512, PNG_1024, PNG_2373, PNG_512_16, PNG_1024_16, PNG_2373_16),
    *(JPEG_512, JPEG_1024, JPEG_2373, JPEG_CAMERA, PNG_10_MB),
    *(PNG_224, JPEG_224, JPEG_224_CAMERA, PNG_224_16),
)
BY_NAME = {kind.name: kind for kind in ALL}


def film(side_px: int, seed: int) -> NDArray[np.uint8]:
    """Return a drawn film, uint8 [side, side]; drawn once, then read from the cache."""
    path = CACHE / "films" / f"{side_px}-{seed}.npy"
    if not path.is_file():
        path.parent.mkdir(parents=True, exist_ok=True)
        np.save(path, draw_phantom(seed, size_px=side_px).pixels_hw)
    pixels_hw: NDArray[np.uint8] = np.load(path)
    return pixels_hw


def encoded(kind: Kind, seed: int = 0) -> bytes:
    """Return a film as a file of this kind.

    16-bit files hold 12 bits in the upper ones, as detectors give: the film's 8 and 4 of noise.
    """
    pixels_hw: NDArray[np.uint8] | NDArray[np.uint16] = film(kind.side_px, seed)
    if kind.bit_depth == 16:
        noise_hw = np.random.default_rng(seed).integers(0, 16, pixels_hw.shape, np.uint16)
        pixels_hw = (pixels_hw * np.uint16(256) + noise_hw * np.uint16(16)).astype(np.uint16)
    if kind.by_camera:
        noise_hw = np.random.default_rng(seed).normal(0, CAMERA_NOISE, pixels_hw.shape)
        grey_hw = np.clip(np.rint(pixels_hw + noise_hw), 0, 255).astype(np.uint8)
        pixels_hw = np.repeat(grey_hw[..., None], 3, axis=-1)
    path = CACHE / "files" / f"{kind.name.replace(' ', '-')}-{seed}"
    if not path.is_file():
        path.parent.mkdir(parents=True, exist_ok=True)
        file = BytesIO()
        options = {"quality": kind.quality} if kind.file_format == "JPEG" else {}
        Image.fromarray(pixels_hw).save(file, kind.file_format, **options)
        path.write_bytes(file.getvalue())
    return path.read_bytes()


def numbered(file: bytes, number: int) -> bytes:
    """Return a file of the same pixels with different bytes."""
    note = f"benchmark {number}".encode()
    if file[:2] == b"\xff\xd8":
        return file[:2] + struct.pack(">BBH", 0xFF, 0xFE, 2 + len(note)) + note + file[2:]
    chunk = b"tEXt" + b"Comment\0" + note
    chunk = struct.pack(">I", len(chunk) - 4) + chunk + struct.pack(">I", zlib.crc32(chunk))
    return file[:_PNG_IHDR_END] + chunk + file[_PNG_IHDR_END:]
