"""Files that are not read are named for what they are, with what to do about it."""

import base64
import struct
from io import BytesIO

import numpy as np
import pytest

from cxr_server.errors import ImageFormatUnsupported
from cxr_server.imaging.codecs import decode
from images import chest_like, encoded, jpeg, png

GREY_HW = chest_like(64, 64)
PNG, JPEG = png(GREY_HW), jpeg(GREY_HW)


def npy() -> bytes:
    file = BytesIO()
    np.save(file, GREY_HW)
    return file.getvalue()


def element(group: int, number: int, representation: bytes, value: bytes) -> bytes:
    """A DICOM element in explicit little endian; in implicit without a representation."""
    tag = struct.pack("<HH", group, number)
    length = struct.pack("<H" if representation else "<I", len(value))
    return tag + representation + length + value


DICOM = "This is a DICOM data set without preamble; send a whole DICOM file (PS3.10)."
LATIN_1, UTF_8 = "latin-1", "utf-8"
FILES = {
    "dicom-meta-without-preamble": (element(2, 0, b"UL", bytes(4)) + bytes(90), DICOM),
    "dicom-explicit-without-preamble": (element(8, 5, b"CS", b"ISO_IR 100") + bytes(90), DICOM),
    "dicom-implicit-without-preamble": (element(8, 5, b"", b"ISO_IR 100") + bytes(90), DICOM),
    "dicom-group-length": (element(8, 0, b"", bytes(4)) + bytes(90), DICOM),
    "base64-png": (base64.b64encode(PNG), "base64 text; send the bytes"),
    "base64-jpeg": (base64.b64encode(JPEG), "base64 text; send the bytes"),
    "base64-url-safe": (base64.urlsafe_b64encode(JPEG), "base64 text; send the bytes"),
    "base64-in-quotes": (b'"' + base64.b64encode(PNG) + b'"', "base64 text; send the bytes"),
    "data-url": (b"data:image/png;base64," + base64.b64encode(PNG), "a data URL; send the bytes"),
    "npy": (npy(), "a NumPy array file; save its pixels as DICOM, PNG or JPEG"),
    "html": (b"<!DOCTYPE html><html><body>404</body></html>", "an HTML page"),
    "html-without-doctype": (b"\n<html><head><title>Sign in</title></head></html>", "an HTML page"),
    "xml": (b"<?xml version='1.0'?><a/>", "an SVG or XML file"),
    "lfs": (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n", "`git lfs pull`"),
    "pgm": (encoded(GREY_HW, "PPM"), "a PGM or PPM file; send DICOM, PNG or JPEG"),
    "nifti": (struct.pack("<i", 348) + bytes(340) + b"n+1\0", "a NIfTI file"),
    "nifti-big-endian": (struct.pack(">i", 348) + bytes(340) + b"ni1\0", "a NIfTI file"),
    "nifti-2": (struct.pack("<i", 540) + b"n+2\0\r\n\x1a\n" + bytes(500), "a NIfTI file"),
    "png-line-ends": (PNG.replace(b"\r\n", b"\n"), "changed as if it were text"),
    "png-line-ends-added": (PNG.replace(b"\n", b"\r\n"), "changed as if it were text"),
    "png-seven-bits": (bytes(byte & 0x7F for byte in PNG), "changed as if it were text"),
    "png-as-utf-8": (PNG.decode(LATIN_1).encode(UTF_8), "changed as if it were text"),
    "png-replaced": (PNG.decode(UTF_8, "replace").encode(), "changed as if it were text"),
    "jpeg-as-utf-8": (JPEG.decode(LATIN_1).encode(UTF_8), "changed as if it were text"),
    "jpeg-replaced": (JPEG.decode(UTF_8, "replace").encode(), "changed as if it were text"),
    "newline-first": (b"\n" + JPEG, "behind other bytes; send it from its first byte"),
    "byte-order-mark-first": (b"\xef\xbb\xbf" + PNG, "behind other bytes"),
    "gif": (encoded(GREY_HW, "GIF"), "a GIF file; send DICOM, PNG or JPEG"),
    "tiff": (encoded(GREY_HW, "TIFF"), "a TIFF file; send DICOM, PNG or JPEG"),
    "webp": (encoded(GREY_HW, "WEBP"), "a WebP file; send DICOM, PNG or JPEG"),
    "bmp": (encoded(GREY_HW, "BMP"), "a BMP file; send DICOM, PNG or JPEG"),
    "jpeg-2000": (encoded(GREY_HW, "JPEG2000"), "a JPEG 2000 file; send DICOM, PNG or JPEG"),
    "text": (b"A chest radiograph", "The file format is not recognised; send DICOM, PNG or JPEG."),
    "even-numbers": (struct.pack("<8H", 8, 5, 7, 9, 3, 1, 0, 4), "not recognised"),
}


@pytest.mark.parametrize("name", FILES)
def test_a_file_that_is_not_read_is_named_and_the_way_out_is_told(name: str) -> None:
    file, words = FILES[name]
    with pytest.raises(ImageFormatUnsupported) as refused:
        decode(file)
    assert words in refused.value.message
