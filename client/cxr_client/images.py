"""Images: an image in any of the accepted forms -> the bytes of a file. Next: requests."""

import io
import os
import struct
import sys
import threading
import zlib
from array import array
from pathlib import Path
from typing import Any, Protocol

from cxr_client.config import StrPath

_TAKEN = (
    "the bytes of a DICOM, PNG or JPEG file, its path, a binary file object, a data set of "
    "pydicom, a PIL image, or an array of uint8 or uint16 with the shape [height, width]"
)
# Those that PNG stores without loss.
_PIL_MODES = ("1", "L", "LA", "P", "RGB", "RGBA", "I;16", "I;16L", "I;16B")
_ORIENTATION = 0x0112
# Of a data set of pydicom: image, presentation and pixel data; class, instance, modality, intent,
# body part and view.
_GROUPS = (0x0028, 0x2050, 0x7FE0)
_TAGS = (
    0x0008_0016,
    0x0008_0018,
    0x0008_0060,
    0x0008_0068,
    0x0018_0015,
    0x0018_1164,
    0x0018_5101,
    0x0020_0020,
)
# Of its file meta information; applications also name themselves there.
_META = ("MediaStorageSOPClassUID", "MediaStorageSOPInstanceUID", "TransferSyntaxUID")
_decoding = threading.Lock()
_PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"


class BinaryFile(Protocol):
    """A file that is open for reading in binary mode."""

    def read(self, size: int, /) -> bytes:
        """Return up to `size` bytes, none at the end."""


class PixelArray(Protocol):
    """An array of numpy, or what converts to one."""

    def __array__(self, *args: Any, **kwargs: Any) -> Any:
        """Return the array."""


class PilImage(Protocol):
    """An image of Pillow."""

    @property
    def mode(self) -> str:
        """The pixel format."""

    def save(self, fp: Any, format: str | None = None, **params: Any) -> None:
        """Write the image to a file."""


class DicomDataset(Protocol):
    """A data set of pydicom."""

    file_meta: Any

    def save_as(self, filename: Any, /, *, enforce_file_format: bool) -> None:
        """Write it to a file."""


ImageSource = (
    bytes | bytearray | memoryview | StrPath | BinaryFile | PilImage | PixelArray | DicomDataset
)
"""The bytes of a DICOM, PNG or JPEG file, its path, a binary file object, a data set of pydicom, a
PIL image, or an array of uint8 or uint16 [height, width]. Images and arrays are sent as PNG,
without loss. Files are sent whole, patient data in a DICOM header included; of a data set, the
elements about the patient are left out."""


def read_image(image: ImageSource, max_bytes: int) -> bytes:
    """Return the bytes of an image file; of a file, never more than `max_bytes` + 1.

    Raises:
        OSError: The file cannot be read.
        TypeError: It is none of the kinds that are taken.
        ValueError: PNG has no form for these pixels.
    """
    match image:
        case bytes() | bytearray():
            return bytes(image)
        case memoryview():
            if image.ndim != 1 or image.itemsize != 1:
                raise TypeError("image is a memoryview of other than bytes; pass the array itself")
            return bytes(image)
        case str() | os.PathLike():
            with Path(image).open("rb") as file:
                return file.read(max_bytes + 1)
    if hasattr(image, "mode") and hasattr(image, "getexif"):
        return _png_of_pil(image)
    if hasattr(image, "save_as") and hasattr(image, "file_meta"):
        return file_of_dataset(image)
    if hasattr(image, "__array__"):
        return _png_of_array(image.__array__())
    if hasattr(image, "read"):
        return _read_file(image, max_bytes)
    raise TypeError(f"image is of the type {type(image).__name__}; pass {_TAKEN}")


def _read_file(file: Any, max_bytes: int) -> bytes:
    """Read a file object from its position."""
    parts, left = [], max_bytes + 1
    while left > 0:
        part = file.read(left)
        if isinstance(part, str):
            raise TypeError('the file is open in text mode; open it with mode "rb"')
        if not isinstance(part, bytes | bytearray):
            raise TypeError(f"read() of the file returns {type(part).__name__}, not bytes")
        if not part:
            break
        parts.append(part)
        left -= len(part)
    return b"".join(parts)


def file_of_dataset(dataset: Any) -> bytes:
    """Write the elements that say what the image is; those about the patient are left out."""
    import pydicom  # callers with a pydicom dataset have it

    sent = pydicom.Dataset()
    for tag in dataset.keys():  # noqa: SIM118 -- iterating it would parse every element
        if tag.group in _GROUPS or tag in _TAGS:
            sent[tag] = dataset[tag]
    sent.file_meta = pydicom.dataset.FileMetaDataset()
    for keyword in _META:
        if keyword in dataset.file_meta:
            setattr(sent.file_meta, keyword, dataset.file_meta[keyword].value)
    file = io.BytesIO()
    sent.save_as(file, enforce_file_format=True)
    return file.getvalue()


def _png_of_pil(image: Any) -> bytes:
    if image.mode not in _PIL_MODES:
        raise ValueError(_refusal(image.mode))
    options = {}
    with _decoding:  # its pixels are read from the file now, perhaps for two calls at once
        image.load()
        exif = image.getexif()
    # Only the orientation is sent on: EXIF may hold more than the pixels say.
    if orientation := exif.get(_ORIENTATION):
        options["exif"] = type(exif)()
        options["exif"][_ORIENTATION] = orientation
    file = io.BytesIO()
    image.save(file, "PNG", compress_level=1, icc_profile=None, **options)
    return file.getvalue()


def _refusal(mode: str) -> str:
    told = f"a PIL image of the mode {mode} is not taken"
    if mode[0] in "IF":
        return (
            f"{told}: its range is unknown, and convert() would clip it; pass an array of it, "
            "scaled to uint8 or uint16"
        )
    return f'{told}; convert it to "L"'


def _png_of_array(pixels_hw: Any) -> bytes:
    """Encode an array of uint8 or uint16 [H, W] as greyscale PNG."""
    shape, dtype = pixels_hw.shape, pixels_hw.dtype
    if dtype.kind != "u" or dtype.itemsize not in (1, 2):
        raise ValueError(
            f"an array of {dtype} is not taken: its range is unknown; scale it to uint8 or uint16"
        )
    if len(shape) != 2 or 0 in shape:
        raise ValueError(
            f"an array of the shape {list(shape)} is not taken, only [height, width]; for colour, "
            "pass a PIL image, and for an encoded file, its bytes"
        )
    rows = array("BH"[dtype.itemsize - 1], pixels_hw.tobytes())
    # PNG is big-endian.
    is_big = dtype.byteorder == ">" or (dtype.byteorder == "=" and sys.byteorder == "big")
    if dtype.itemsize == 2 and not is_big:
        rows.byteswap()
    height, width = shape
    stride = width * dtype.itemsize
    data = memoryview(rows).cast("B")
    packer = zlib.compressobj(1)
    parts: list[bytes] = []
    for start in range(0, height * stride, stride):
        parts += packer.compress(b"\0"), packer.compress(data[start : start + stride])
    parts.append(packer.flush())
    header = struct.pack(">IIBBBBB", width, height, 8 * dtype.itemsize, 0, 0, 0, 0)
    chunks = (b"IHDR", header), (b"IDAT", b"".join(parts)), (b"IEND", b"")
    return _PNG_SIGNATURE + b"".join(_chunk(kind, content) for kind, content in chunks)


def _chunk(kind: bytes, content: bytes) -> bytes:
    checksum = zlib.crc32(content, zlib.crc32(kind))
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", checksum)
