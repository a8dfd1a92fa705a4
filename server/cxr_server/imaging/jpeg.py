"""JPEG: file bytes -> greyscale pixels. Pixels are decoded in `jpeg_pixels`.

The marker segments are walked here first (ITU-T T.81, annex B), up to the end of the first image:
previews, the further images of an MPF file and a video may follow it. Of what stands before the
pixels, only the segments that make them up reach a decoder, so that thumbnails, colour profiles and
comments never do.
"""

import struct

from cxr_server.errors import ImageFormatUnsupported, ImageIsHeatmap, ImageUnreadable
from cxr_server.imaging.exif import exif_orientation, states_exposure
from cxr_server.imaging.jpeg_pixels import SEQUENTIAL, JpegPixels
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
from cxr_server.imaging.radiograph import Decoded, DecodeOptions, Header, ImageBytes

SIGNATURE = b"\xff\xd8\xff"
MAX_TABLE_BYTES = 65_536
"""Far above the bytes of coding tables that encoders write before the pixels."""

_FRAMES = (*SEQUENTIAL, 0xC2)  # and progressive, all Huffman-coded
_OTHER_FRAMES = {*range(0xC3, 0xD0), 0xDE, 0xF7} - {0xC4, 0xC8}
"""Lossless, hierarchical and arithmetic-coded JPEG, and JPEG-LS."""
_XMP_PREFIX = b"http://ns.adobe.com/xap/1.0/\0"


class JpegCodec:
    """Reads baseline, extended sequential and progressive JPEG of 8 bits, grey or colour."""

    name = "JPEG"
    needs = "simplejpeg"

    def why_not(self) -> str | None:
        """Return None: simplejpeg is always installed."""
        return None

    def sniff(self, head: bytes) -> bool:
        """Tell whether a file begins with JPEG's signature, or is a part of it."""
        return SIGNATURE.startswith(head[: len(SIGNATURE)])

    def read_header(self, data: ImageBytes) -> Header:
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
        is_grey = len(component_ids) == 1
        # As libjpeg decides (jdapimin.c).
        is_rgb = not has_jfif and (
            adobe_transform == 0 or (adobe_transform is None and component_ids == b"RGB")
        )
        pixel_data = JpegPixels(kept, bytes(frame[1]), frame[0], data, first_scan, is_rgb)
        # The file for libjpeg and a copy of coded data; the components; grey, or the same upright,
        # and the search for colour; of files of several scans all coefficients, of 16 bits each.
        component_count = len(component_ids)
        has_one_scan = frame[0] in SEQUENTIAL and scan_component_count == component_count
        pixel_bytes = (2 if is_grey else 5) + (0 if has_one_scan else 2 * component_count)
        decode_bytes = 2 * len(data) + pixel_bytes * height_px * width_px
        orientation = exif or xmp or 1
        return Header(
            height_px,
            width_px,
            8,
            orientation,
            pixel_data,
            decode_bytes,
            is_photograph=is_photograph,
        )

    def decode(self, header: Header, options: DecodeOptions) -> Decoded:
        """Decode the luma. Raises ImageUnreadable."""
        pixels: JpegPixels = header.pixel_data
        return pixels.decode()


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
