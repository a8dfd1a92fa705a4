"""JPEG pixels: segments and coded data -> luma. libjpeg-turbo decodes, through simplejpeg.

simplejpeg is strict: where libjpeg only warns, and fills what is missing with plain grey, it fails.
A whole scan that is missing is found here, since libjpeg takes it for zeros without a warning.
libjpeg also warns of oddities that change no pixel. They are tolerated, as by every other reader,
and removed here: bytes between segments, zeros behind coded data, a JFIF version other than 1, an
Adobe transform other than 0 and 1 (read as 1), and a spectral selection or a successive
approximation in sequential scans. To find what is to be removed behind the first scan, all of the
file is searched for markers.

Of three components the luma alone is decoded, by a file that libjpeg can only read if the others
are neutral (`jpeg_neutral`). Most such files have nothing to be removed, so libjpeg gets the rest
of the file as it is first, and the search comes if it warns. Other files are searched at once: the
end of the image must be the last that libjpeg gets, since its fast decoder notices no broken code
as long as enough bytes follow.

If chroma is not neutral, the components are decoded as they are stored: libjpeg converts none if it
is told that they are red, green and blue.
"""

import struct
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass

import numpy as np
import simplejpeg
from numpy.typing import NDArray

from cxr_server.errors import ImageUnreadable
from cxr_server.imaging.jpeg_chroma import luma
from cxr_server.imaging.jpeg_neutral import AS_STORED, Part, neutral_file
from cxr_server.imaging.jpeg_segments import SOS, is_metadata, segments
from cxr_server.imaging.pixels import to_greyscale
from cxr_server.imaging.radiograph import Decoded, ImageBytes

SEQUENTIAL = (0xC0, 0xC1)  # frames, baseline and extended
MAX_SCAN_COUNT = 64
"""Maximum scans of a progressive file; encoders write about 10. Each scan costs a pass over the
image, however few bytes it has."""
MAX_SCANNED_PIXEL_COUNT = 1_000_000_000  # maximum pixels times scans of a progressive file

_EOI = b"\xff\xd9"
_SEQUENTIAL_SELECTION = b"\x00\x3f\x00"  # all 64 coefficients, with all their bits


@dataclass(frozen=True, slots=True)
class JpegPixels:
    """What makes up the pixels: segments before the first scan, and the file from there."""

    before: list[Part]
    frame: bytes  # its header
    marker: int  # that of the frame
    file: ImageBytes
    first_scan: int  # its offset
    is_rgb: bool  # else luma and chroma, if it is not grey

    def decode(self) -> Decoded:
        """Decode the luma. Raises ImageUnreadable."""
        rest = self._rest()
        if rest and (neutral := self._neutral(rest)):
            return neutral
        scans = self._scans()
        for parts in scans:
            is_tried = rest and _sizes(parts) == _sizes(rest)
            if not is_tried and (neutral := self._neutral(parts)):
                return neutral
        is_grey, (soi, *before) = self.frame[5] == 1, self.before
        if not is_grey:
            before.insert(0, AS_STORED)
        for parts in scans:
            file = b"".join((soi, *before, *parts))
            stored_hwc = _pixels(file, "GRAY" if is_grey else "RGB")
            if stored_hwc is None:
                continue
            if is_grey:
                return Decoded(stored_hwc[..., 0])
            return to_greyscale(stored_hwc) if self.is_rgb else luma(stored_hwc)
        raise ImageUnreadable("The pixels of the JPEG file are broken or cut short.")

    def _neutral(self, parts: Sequence[Part]) -> Decoded | None:
        """Decode the luma alone; None if there is chroma that is not neutral, or libjpeg warns."""
        if self.frame[5] == 1 or self.is_rgb or self.marker not in SEQUENTIAL:
            return None
        file = neutral_file(self.before, self.frame, parts)
        luma_hwc = _pixels(file, "GRAY") if file else None
        return None if luma_hwc is None else Decoded(luma_hwc[..., 0])

    def _rest(self) -> list[Part] | None:
        """Return all of the file from its first scan on, as if nothing but EOI followed that.

        If there is more, libjpeg stops at the first EOI, and fails if another marker comes before
        the last pixel. None for files of several scans, and if zeros have to be removed.
        """
        marker, start, header = next(segments(self.file, self.first_scan))
        has_all = marker == SOS and len(header) >= 10 and header[4] == self.frame[5]
        end = bytes(self.file[-5:])
        is_padded = end[:3] == bytes(3)
        if self.marker not in SEQUENTIAL or not has_all or is_padded or end[3:] != _EOI:
            return None
        coded = memoryview(self.file)[start + len(header) : -2]
        return [header[:-3], _SEQUENTIAL_SELECTION, coded, _EOI]

    def _scans(self) -> list[list[Part]]:
        """Return all from the first scan on; if zeros end coded data, also without most of them.

        Any other bytes behind coded data are refused by libjpeg: they are what is left over when
        damaged data ends too early. So are zeros, though they mean nothing: some cameras pad with
        them. Coded data may itself end in many zeros, as those of a black border do in progressive
        files. Raises ImageUnreadable if there are too many scans, or too few.
        """
        height_px, width_px = struct.unpack_from(">HH", self.frame, 1)
        view, parts, unpadded = memoryview(self.file), list[Part](), dict[int, Part]()
        scans, coded_from = list[memoryview](), 0
        for marker, start, segment in segments(self.file, self.first_scan):
            if coded_from:
                coded = view[coded_from:start]
                if bytes(coded[-3:]) == bytes(3):
                    unpadded[len(parts)] = coded[: len(bytes(coded).rstrip(b"\0")) + 2]
                parts.append(coded)
            coded_from = 0
            if marker == SOS:
                scans.append(segment)
                work = len(scans) * width_px * height_px
                if len(scans) > MAX_SCAN_COUNT or (
                    len(scans) > 1 and work > MAX_SCANNED_PIXEL_COUNT
                ):
                    raise ImageUnreadable("The JPEG file has too many scans for its size.")
                coded_from = start + len(segment)
                if self.marker in SEQUENTIAL and len(segment) >= 10:
                    parts += segment[:-3], _SEQUENTIAL_SELECTION
                    continue
            if not is_metadata(marker):
                parts.append(segment)
        self._refuse_missing(scans)
        whole = [unpadded.get(number, part) for number, part in enumerate(parts)]
        return [parts, whole] if unpadded else [parts]

    def _refuse_missing(self, scans: Sequence[memoryview]) -> None:
        """Raise ImageUnreadable if no scan has some coefficient of the luma, or its last bit.

        Given are the headers of the scans (T.81, B.2.3). No grey is made of chroma.
        """
        needed = self.frame[6 : 6 + 3 * self.frame[5] : 3] if self.is_rgb else self.frame[6:7]
        missing = {component: set(range(64)) for component in needed}
        for header in scans:
            is_sequential = self.marker in SEQUENTIAL
            first, last, bits = _SEQUENTIAL_SELECTION if is_sequential else header[-3:]
            for component in header[5:-3:2]:
                if component in missing and not bits & 0xF:  # no lower bits are left to come
                    missing[component] -= set(range(first, last + 1))
        if any(missing.values()):
            raise ImageUnreadable("The JPEG file lacks scans: the pixels are not complete.")


def _pixels(file: bytes, colorspace: str) -> NDArray[np.uint8] | None:
    """Return the pixels [H, W, components], or None if libjpeg warns."""
    with suppress(ValueError):
        pixels_hwc: NDArray[np.uint8] = simplejpeg.decode_jpeg(file, colorspace, strict=True)
        return pixels_hwc
    return None


def _sizes(parts: Sequence[Part]) -> list[int]:
    return [len(part) for part in parts]
