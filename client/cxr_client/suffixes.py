"""Suffixes: names of image files -> the same names without them."""

import re

SENT = frozenset({".png", ".jpg", ".jpeg", ".jpe", ".jfif", ".dcm", ".dicom"})
"""Suffixes of the files that are sent."""

_KNOWN = SENT | {".bmp", ".gif", ".jp2", ".tif", ".tiff", ".webp"}


def without_suffix(name: str) -> str:
    """Return a name or path without the suffix of an image.

    Files of archives are often called by their UID, whose last number is no suffix.
    """
    stem, point, suffix = name.rpartition(".")
    return stem if re.search(r"[^/]$", stem) and (point + suffix).lower() in _KNOWN else name
