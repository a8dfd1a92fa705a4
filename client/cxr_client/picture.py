"""Pictures: picture files in replies -> their format, Pillow images, files on disk."""

import io
import secrets
from pathlib import Path
from typing import TYPE_CHECKING

from cxr_client.config import StrPath
from cxr_client.enums import RenderFormat

if TYPE_CHECKING:
    from PIL.Image import Image

_SIGNATURES = {RenderFormat.PNG: b"\x89PNG\r\n\x1a\n", RenderFormat.JPEG: b"\xff\xd8\xff"}
_SUFFIXES = {RenderFormat.PNG: (".png",), RenderFormat.JPEG: (".jpg", ".jpeg")}


def format_of(picture: bytes) -> RenderFormat | None:
    """Return the format of a picture; None if it is neither PNG nor JPEG, or empty."""
    for image_format, signature in _SIGNATURES.items():
        if picture.startswith(signature):
            return image_format
    return None


def shown(picture: bytes) -> str:
    """Return what a representation says of a picture, which may have megabytes."""
    return f"<{format_of(picture)}, {len(picture)} bytes>" if picture else "None"


def open_picture(picture: bytes) -> "Image":
    """Return a picture as a PIL image. Requires Pillow.

    Raises:
        ValueError: There is no picture.
    """
    from PIL import Image

    if not picture:
        raise ValueError("there is no picture: none was requested")
    return Image.open(io.BytesIO(picture))


def save_picture(picture: bytes, path: StrPath) -> Path:
    """Write a picture to a file: under another name first, so that no part of it is left.

    Returns:
        The path of the file. Where `path` does not end in a suffix of the picture's format,
        ".png" or ".jpg" is appended.

    Raises:
        ValueError: There is no picture, or `path` ends in a suffix of the other format.
        OSError: The file cannot be written.
    """
    image_format = format_of(picture)
    if image_format is None:
        raise ValueError("there is no picture: none was requested")
    file = Path(path)
    suffix = file.suffix.lower()
    if suffix not in _SUFFIXES[image_format]:
        if any(suffix in suffixes for suffixes in _SUFFIXES.values()):
            raise ValueError(f"the picture is a {image_format} file, not {file.suffix}")
        file = file.with_name(file.name + _SUFFIXES[image_format][0])
    part = file.with_name(f".cxr-{secrets.token_hex(8)}.part")
    try:
        part.write_bytes(picture)
        part.replace(file)
    except BaseException:
        part.unlink(missing_ok=True)
        raise
    return file
