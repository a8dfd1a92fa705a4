"""JPEG: file bytes -> greyscale pixels. Pixels are decoded by libjpeg-turbo, through simplejpeg.

The marker segments are walked here first (ITU-T T.81, annex B), up to the end of the first image:
previews, the further images of an MPF file and a video may follow it. Only the segments that make
up the pixels reach libjpeg, so that thumbnails, colour profiles and comments never do.

simplejpeg is strict: where libjpeg only warns, and fills what is missing with plain grey, it fails.
libjpeg also warns of oddities that change no pixel. They are tolerated, as by every other reader,
and removed here: bytes between segments, zeros behind coded data, a JFIF version other than 1, an
Adobe transform other than 0 and 1 (read as 1), and a spectral selection or a successive
approximation in sequential scans.

Files of three components are decoded once, into the components that they store. libjpeg converts
none if it is told that they are red, green and blue.
"""

import struct
from contextlib import suppress
from dataclasses import dataclass, replace

import simplejpeg

from cxr_server.errors import ImageFormatUnsupported, ImageIsHeatmap, ImageUnreadable
from cxr_server.imaging.exif import exif_orientation, states_exposure
from cxr_server.imaging.jpeg_chroma import luma
from cxr_server.imaging.jpeg_segments import (
    APP0,
    APP1,
    APP14,
    COM,
    EOI,
    SOS,
    begins,
    is_metadata,
    segments,
)
from cxr_server.imaging.mark import IS_HEATMAP, MARK
from cxr_server.imaging.orientation import xmp_orientation
from cxr_server.imaging.pixels import to_greyscale
from cxr_server.imaging.radiograph import Decoded, DecodeOptions, Header

SIGNATURE = b"\xff\xd8\xff"
MAX_TABLE_BYTES = 65_536
"""Far above the bytes of coding tables that encoders write before the pixels."""
MAX_SCAN_COUNT = 64
"""Maximum scans of a progressive file; encoders write about 10. Each scan costs a pass over the
image, however few bytes it has."""
MAX_SCANNED_PIXEL_COUNT = 1_000_000_000  # maximum pixels times scans of a progressive file

_SEQUENTIAL = (0xC0, 0xC1)  # baseline and extended sequential
_FRAMES = (*_SEQUENTIAL, 0xC2)  # and progressive, all Huffman-coded
_OTHER_FRAMES = {*range(0xC3, 0xD0), 0xDE, 0xF7} - {0xC4, 0xC8}
"""Lossless, hierarchical and arithmetic-coded JPEG, and JPEG-LS."""
_AS_STORED = b"\xff\xee\x00\x0eAdobe\x00\x64\x00\x00\x00\x00\x00"
"""Adobe's segment, with the transform 0: the components are red, green and blue."""
_SEQUENTIAL_SELECTION = b"\x00\x3f\x00"  # all 64 coefficients, with all their bits
_XMP_PREFIX = b"http://ns.adobe.com/xap/1.0/\0"


@dataclass(frozen=True, slots=True)
class _PixelData:
    """What makes up the pixels: segments before the first scan, and the file from there."""

    before: list[bytes | memoryview]
    file: bytes
    first_scan: int  # its offset
    is_sequential: bool
    is_grey: bool
    is_rgb: bool  # else luma and chroma, if it is not grey


class JpegCodec:
    """Reads baseline, extended sequential and progressive JPEG of 8 bits, grey or colour."""

    name = "JPEG"
    needs = "simplejpeg"

    def why_not(self) -> str | None:
        """Return None: simplejpeg is always installed."""
        return None

    def sniff(self, data: bytes) -> bool:
        """Tell whether data begins with JPEG's signature, or is a part of it."""
        return SIGNATURE.startswith(data[: len(SIGNATURE)])

    def read_header(self, data: bytes) -> Header:
        """Read the segments up to the first scan. Raises as `Codec.read_header`."""
        kept: list[bytes | memoryview] = [b"\xff\xd8"]
        frame: tuple[int, memoryview] | None = None
        exif = xmp = adobe_transform = None
        has_jfif = is_photograph = False
        table_bytes = first_scan = scan_component_count = 0
        for marker, start, segment in segments(data, 2):
            payload = segment[4:]
            if marker in (SOS, EOI):
                first_scan, scan_component_count = start, int.from_bytes(payload[:1])
                break
            if marker in _OTHER_FRAMES:
                raise ImageFormatUnsupported("Only baseline and progressive JPEG can be read.")
            if marker in _FRAMES:
                if frame is not None:
                    raise ImageUnreadable("The JPEG file has more than one frame header.")
                frame = marker, payload
            elif marker == COM and begins(payload, MARK + b" "):
                raise ImageIsHeatmap(IS_HEATMAP)
            elif marker == APP1 and begins(payload, b"Exif\0\0"):
                exif = exif or exif_orientation(payload)
                is_photograph = is_photograph or states_exposure(payload)
            elif marker == APP1 and begins(payload, _XMP_PREFIX):
                xmp = xmp or xmp_orientation(payload)
            elif marker == APP0 and len(payload) >= 14 and begins(payload, b"JFIF\0"):
                has_jfif = True
            elif marker == APP14 and len(payload) >= 12 and begins(payload, b"Adobe"):
                adobe_transform = payload[11]
            if not is_metadata(marker):
                kept.append(segment)
                table_bytes += len(segment)
                if table_bytes > MAX_TABLE_BYTES:
                    raise ImageUnreadable("The JPEG file has too many coding tables.")
        if frame is None:
            raise ImageUnreadable("The JPEG file lacks its frame header.")
        height_px, width_px, component_ids = _read_frame(frame[1])
        is_sequential, is_grey = frame[0] in _SEQUENTIAL, len(component_ids) == 1
        # As libjpeg decides (jdapimin.c).
        is_rgb = not has_jfif and (
            adobe_transform == 0 or (adobe_transform is None and component_ids == b"RGB")
        )
        if not is_grey:
            kept.insert(1, _AS_STORED)
        pixel_data = _PixelData(kept, data, first_scan, is_sequential, is_grey, is_rgb)
        # The file for libjpeg and a copy of coded data; the components; grey, or the same upright,
        # and the search for colour; of files of several scans all coefficients, of 16 bits each.
        component_count = len(component_ids)
        has_one_scan = is_sequential and scan_component_count == component_count
        pixel_bytes = (2 if is_grey else 5) + (0 if has_one_scan else 2 * component_count)
        decode_bytes = 2 * len(data) + pixel_bytes * height_px * width_px
        orientation = exif or xmp or 1
        header = Header(height_px, width_px, 8, orientation, pixel_data, decode_bytes)
        return replace(header, is_photograph=is_photograph)

    def decode(self, header: Header, options: DecodeOptions) -> Decoded:
        """Decode the luma. Raises ImageUnreadable."""
        data: _PixelData = header.pixel_data
        colorspace = "GRAY" if data.is_grey else "RGB"
        for zeros_are_padding in (False, True):
            file = _file(header, zeros_are_padding=zeros_are_padding)
            with suppress(ValueError):
                stored_hwc = simplejpeg.decode_jpeg(file, colorspace, strict=True)
                break
        else:
            raise ImageUnreadable("The pixels of the JPEG file are broken or cut short.")
        if data.is_grey:
            return Decoded(stored_hwc[..., 0])
        return to_greyscale(stored_hwc) if data.is_rgb else luma(stored_hwc)


def _read_frame(payload: memoryview) -> tuple[int, int, bytes]:
    """Return height, width and the components' identifiers (T.81, B.2.2)."""
    if len(payload) < 6 or len(payload) != 6 + 3 * payload[5]:
        raise ImageUnreadable("The frame header of the JPEG file is broken.")
    precision, height_px, width_px, component_count = struct.unpack_from(">BHHB", payload)
    if precision != 8:
        raise ImageFormatUnsupported(f"This is a {precision}-bit JPEG; send 8 bits.")
    if component_count not in (1, 3):
        kind = "CMYK" if component_count == 4 else f"{component_count}-component"
        raise ImageFormatUnsupported(f"This is a {kind} JPEG; send greyscale or RGB.")
    if not height_px or not width_px:
        raise ImageUnreadable("The JPEG file states a side of zero.")
    return height_px, width_px, bytes(payload[6::3])


def _without_padding(coded: memoryview) -> memoryview:
    """Return the coded data of a scan with two at most of the zeros at its end.

    Any other bytes behind it are refused by libjpeg: they are what is left over when damaged data
    ends too early. So are zeros, though they mean nothing: some cameras pad with them. Coded data
    may itself end in many zeros, as those of a black border do in progressive files.
    """
    if bytes(coded[-3:]) != bytes(3):
        return coded
    return coded[: len(bytes(coded).rstrip(b"\0")) + 2]


def _file(header: Header, *, zeros_are_padding: bool) -> bytes:
    """Return a JPEG file of the pixels alone. Raises ImageUnreadable if it has too many scans."""
    data: _PixelData = header.pixel_data
    view, parts = memoryview(data.file), [*data.before]
    scan_count = coded_from = 0
    for marker, start, segment in segments(data.file, data.first_scan):
        if coded_from:
            coded = view[coded_from:start]
            parts.append(_without_padding(coded) if zeros_are_padding else coded)
        coded_from = 0
        if marker == SOS:
            scan_count += 1
            work = scan_count * header.width_px * header.height_px
            if scan_count > MAX_SCAN_COUNT or (scan_count > 1 and work > MAX_SCANNED_PIXEL_COUNT):
                raise ImageUnreadable("The JPEG file has too many scans for its size.")
            coded_from = start + len(segment)
            if data.is_sequential and len(segment) >= 10:
                parts += segment[:-3], _SEQUENTIAL_SELECTION
                continue
        if not is_metadata(marker):
            parts.append(segment)
    return b"".join(parts)
