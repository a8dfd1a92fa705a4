"""PNG metadata: what chunks that hold no pixels tell: the orientation, and who made the file."""

from isal.igzip_lib import IsalError
from isal.isal_zlib import crc32, decompressobj

from cxr_server.errors import ImageIsHeatmap
from cxr_server.imaging.exif import exif_orientation
from cxr_server.imaging.mark import IS_HEATMAP, MARK
from cxr_server.imaging.orientation import hexadecimal_exif_orientation, xmp_orientation

METADATA_CHUNKS = frozenset({b"eXIf", b"tEXt", b"zTXt", b"iTXt"})
MAX_TEXT_BYTES = 262_144
"""Bytes of a text that are read or inflated: an EXIF block of 64 KiB takes 130 KiB of text."""
MAX_KEYWORD_BYTES = 79

_ORIENTATIONS = {
    b"eXIf": exif_orientation,
    b"Raw profile type exif": hexadecimal_exif_orientation,
    b"Raw profile type APP1": hexadecimal_exif_orientation,
    b"XML:com.adobe.xmp": xmp_orientation,
}
"""What states the orientation, by chunk or by keyword of a text chunk, in order of precedence."""


class PngMetadata:
    """The first chunk of each kind that states an orientation."""

    def __init__(self) -> None:
        self._chunks: dict[bytes, memoryview] = {}

    def add(self, chunk: memoryview) -> None:
        """Look at one of `METADATA_CHUNKS`, from its length to its checksum.

        Raises ImageIsHeatmap if this service made the file.
        """
        keyword = bytes(chunk[4:8])
        if keyword != b"eXIf":
            keyword = bytes(chunk[8 : 9 + MAX_KEYWORD_BYTES]).split(b"\0", 1)[0]
        if keyword == MARK:
            raise ImageIsHeatmap(IS_HEATMAP)
        if keyword in _ORIENTATIONS:
            self._chunks.setdefault(keyword, chunk)

    def orientation(self) -> int:
        """Return the orientation, 1 to 8. Broken metadata states none."""
        for keyword, read in _ORIENTATIONS.items():
            chunk = self._chunks.get(keyword)
            if chunk and is_intact(chunk) and (found := read(_value(keyword, chunk))):
                return found
        return 1


def is_intact(chunk: memoryview) -> bool:
    """Tell whether the checksum of a chunk is right."""
    return bool(crc32(chunk[4:-4]) == int.from_bytes(chunk[-4:]))


def _value(keyword: bytes, chunk: memoryview) -> bytes | memoryview:
    """Return an EXIF block, or at most `MAX_TEXT_BYTES` of a text; b"" if it is broken."""
    kind = bytes(chunk[4:8])
    if kind == b"eXIf":
        return chunk[8:-4]
    value = bytes(chunk[9 + len(keyword) : -4][:MAX_TEXT_BYTES])
    is_compressed = kind == b"zTXt"
    if kind == b"iTXt":  # flag, method, language, translated keyword and text (section 11.3.3.4)
        is_compressed = value[:1] == b"\1"
        value = b"".join(value[2:].split(b"\0", 2)[2:])
    elif is_compressed:
        value = value[1:]  # behind the method
    if not is_compressed:
        return value
    try:
        return bytes(decompressobj().decompress(value, MAX_TEXT_BYTES))
    except IsalError:  # type: ignore[misc]  # isal types it as an instance
        return b""
