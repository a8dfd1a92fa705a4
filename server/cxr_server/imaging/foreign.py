"""Foreign files: names what no codec reads, and says what to do about it."""

import re

MAX_SNIFFED_BYTES = 1_024
"""Bytes at the beginning of a file that tell its format."""
MAX_FIRST_ELEMENT_BYTES = 128
"""Bytes of the first value of a DICOM data set without preamble: a character set, a date, a UID."""

_VALUE_REPRESENTATIONS = frozenset(
    b"AE AS AT CS DA DS DT FD FL IS LO LT OB OD OF OL OV OW PN SH SL SQ SS ST SV TM UC UI UL UN UR"
    b" US UT UV".split()
)
_FORMATS: tuple[tuple[bytes, str, str], ...] = (
    (rb"GIF8", "a GIF file", ""),
    (rb"II\*\0|MM\0\*", "a TIFF file", ""),
    (rb".{8}WEBP", "a WebP file", ""),
    (rb"BM", "a BMP file", ""),
    (rb"\0\0\0\x0cjP|\xff\x4f\xff\x51", "a JPEG 2000 file", ""),
    (rb"\0\0\0\x0cJXL|\xff\x0a", "a JPEG XL file", ""),
    (rb".{4}ftyp", "a HEIF or AVIF file", ""),
    (rb"P[1-7]\s", "a PGM or PPM file", ""),
    (rb"\x93NUMPY", "a NumPy array file", "save its pixels as {formats}"),
    (rb"(?:\x5c\x01\0\0|\0\0\x01\x5c).{340}n[+i]1\0|.{4}n[+i]2\0", "a NIfTI file", ""),
    (rb"%PDF", "a PDF file", ""),
    (rb"(?i:\s*<(?:!doctype html|html))", "an HTML page, perhaps of an error or a login", ""),
    (rb"\s*(?:<svg|<\?xml)", "an SVG or XML file", ""),
    (rb"PK\x03\x04", "a ZIP file", ""),
    (rb"\x1f\x8b", "a gzip file", ""),
    (rb"version https://git-lfs", "a Git LFS pointer", "send the file that `git lfs pull` fetches"),
    (rb'\s*"?data:[^,]{0,80};base64,', "a data URL", "send the bytes that its base64 stands for"),
    (rb'\s*"?(?:iVBORw0KGgo|[/_]9j[/_])', "base64 text", "send the bytes that it stands for"),
    (
        # The first byte of PNG's signature and the line ends behind it are there to show this.
        rb"(?:\x89|\t|\xc2\x89|\xef\xbf\xbd)PNG|\xc3\xbf\xc3\x98\xc3\xbf|(?:\xef\xbf\xbd){3}",
        "a PNG or JPEG file that was changed as if it were text",
        "read and transfer it as binary",
    ),
    (
        rb"(?:\s|\xef\xbb\xbf)+(?:\x89PNG|\xff\xd8\xff)",
        "a PNG or JPEG file behind other bytes",
        "send it from its first byte",
    ),
)
"""Pattern at the beginning, name, and what to do; "" stands for sending a format that is read."""
_PATTERNS = tuple((re.compile(start, re.DOTALL), name, advice) for start, name, advice in _FORMATS)


def _is_dicom_data_set(head: bytes) -> bool:
    """Tell whether a file may be DICOM without preamble and mark (DICOM PS3.5, section 7.1).

    It begins with an element of group 0002 or 0008, in explicit or implicit little endian.
    """
    if head[:1] not in (b"\2", b"\x08") or head[1:2] != b"\0" or head[3:4] != b"\0":
        return False
    length = int.from_bytes(head[4:8], "little")
    is_implicit = 0 < length <= MAX_FIRST_ELEMENT_BYTES and length % 2 == 0
    return head[4:6] in _VALUE_REPRESENTATIONS or is_implicit


def refusal(head: bytes, formats: str) -> str:
    """Return the message for a file that cannot be read, given the names of formats that can.

    `head` is what the file begins with, as a codec's `sniff` gets it.
    """
    if _is_dicom_data_set(head):
        return "This is a DICOM data set without preamble; send a whole DICOM file (PS3.10)."
    for pattern, name, advice in _PATTERNS:
        if pattern.match(head):
            return f"This is {name}; {advice.format(formats=formats) or f'send {formats}'}."
    return f"The file format is not recognised; send {formats}."
