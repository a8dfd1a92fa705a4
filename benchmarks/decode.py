"""Decode and encode: processor time of libraries that could do it, one thread each.

`python -m benchmarks.decode`. Processor time, not the clock's, so that a busy machine matters
less. A library that is not installed, or cannot read a kind of file, is left out; one whose
pixels differ from Pillow's is marked.
"""

import argparse
import importlib
import json
import statistics
import struct
import time
import zlib
from collections.abc import Callable
from functools import partial
from io import BytesIO
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, PngImagePlugin

from benchmarks import radiographs
from benchmarks.radiographs import Kind, encoded, film
from cxr_server.explanation.colormaps import ColorMap, colors
from cxr_server.imaging.decode import decode as own_decode

Decoder = Callable[[bytes], NDArray[Any]]
Encoder = Callable[[NDArray[np.uint8]], bytes]
JPEG_TOLERANCE = 2
"""Decoders may round the inverse transform differently."""


def main() -> None:
    """Print both tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sides", type=int, nargs="+", default=[512, 1024, 2373])
    parser.add_argument("--repeats", type=int, default=9)
    parser.add_argument("--json", help="write the numbers to this file as well")
    args = parser.parse_args()
    kinds = [kind for kind in radiographs.ALL if kind.side_px in args.sides]
    rows = decoding(kinds, args.repeats) + encoding((224, 1024), args.repeats)
    if args.json:
        with open(args.json, "w", encoding="utf-8") as file:
            json.dump(rows, file, indent=1)


def decoding(kinds: list[Kind], repeats: int) -> list[dict[str, Any]]:
    """Time every decoder on every kind of file."""
    rows = []
    print(f"{'decode, ms of processor time':<28}{'file kB':>9}")
    for kind in kinds:
        data = encoded(kind)
        wanted = np.asarray(Image.open(BytesIO(data)))
        print(f"{kind.name:<28}{len(data) / 1000:9.0f}")
        for name, decoder in decoders(kind).items():
            try:
                got = np.squeeze(decoder(data))
            except Exception as error:
                print(f"    {name:<32}cannot: {type(error).__name__}")
                continue
            tolerance = JPEG_TOLERANCE if kind.file_format == "JPEG" else 0
            same = got.shape == wanted.shape and bool(
                np.abs(got.astype(int) - wanted.astype(int)).max() <= tolerance
            )
            ms = processor_ms(partial(decoder, data), repeats)
            print(f"    {name:<32}{ms:8.2f}  {'' if same else 'other pixels'}")
            rows.append({"kind": kind.name, "library": name, "ms": ms, "same_pixels": same})
    return rows


def encoding(sides: tuple[int, ...], repeats: int) -> list[dict[str, Any]]:
    """Time every encoder on overlays in colour."""
    rows = []
    for side_px in sides:
        overlay_hwc = overlay(side_px)
        print(f"encode {side_px} x {side_px} overlay, ms of processor time, kB")
        for name, encoder in encoders().items():
            try:
                data = encoder(overlay_hwc)
            except Exception as error:
                print(f"    {name:<32}cannot: {type(error).__name__}")
                continue
            if not np.array_equal(np.asarray(Image.open(BytesIO(data))), overlay_hwc):
                raise ValueError(f"{name} wrote another picture")
            ms = processor_ms(partial(encoder, overlay_hwc), repeats)
            print(f"    {name:<32}{ms:8.2f}{len(data) / 1000:9.0f}")
            rows.append({"side_px": side_px, "library": name, "ms": ms, "bytes": len(data)})
    return rows


def processor_ms(work: Callable[[], object], repeats: int) -> float:
    """Median processor time of one call, over `repeats`, after a warm-up."""
    work()
    times = []
    for _ in range(repeats):
        started = time.process_time()
        work()
        times.append(1000 * (time.process_time() - started))
    return statistics.median(times)


def overlay(side_px: int) -> NDArray[np.uint8]:
    """Return an overlay as the server draws them: a film half covered with smooth colour."""
    rows, columns = np.mgrid[0:side_px, 0:side_px] / side_px
    heat = np.exp(-((rows - 0.6) ** 2 + (columns - 0.35) ** 2) / 0.03)[..., None]
    table = colors(ColorMap.INFERNO)
    color_hwc = table[np.rint(heat[..., 0] * 255).astype(int)]
    grey_hwc = film(side_px, 0)[..., None]
    blended_hwc = grey_hwc * (1 - heat / 2) + color_hwc * heat / 2
    return np.asarray(np.rint(blended_hwc), np.uint8)


def decoders(kind: Kind) -> dict[str, Decoder]:
    """The decoders to try on a kind of file, by name."""
    found: dict[str, Decoder] = {
        "this server's decode": lambda data: own_decode(data).pixels_hw,
        "Pillow": lambda data: np.asarray(Image.open(BytesIO(data))),
    }
    if cv2 := module("cv2"):
        cv2.setNumThreads(1)
        found["OpenCV"] = lambda data: cv2.imdecode(
            np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED
        )
    codecs = module("imagecodecs")
    if kind.file_format == "PNG":
        found["Pillow, PNG plugin alone"] = _pillow_png
        if kornia := module("kornia_rs.io"):
            load = (
                kornia.decode_image_png_u16 if kind.bit_depth == 16 else kornia.decode_image_png_u8
            )
            found["kornia-rs"] = lambda data: load(data, (kind.side_px, kind.side_px), "mono")
        if vips := module("pyvips"):
            found["libvips"] = lambda data: vips.Image.new_from_buffer(data, "").numpy()
        if wuffs := module("pywuffs"):
            found["pywuffs"] = _wuffs(wuffs)
        if codecs:
            found["imagecodecs png"] = codecs.png_decode
            found["imagecodecs spng"] = codecs.spng_decode
        if pyspng := module("pyspng"):
            found["pyspng"] = pyspng.load
        for name in ("zlib_ng.zlib_ng", "isal.isal_zlib", "zlib"):
            if inflate := module(name):
                found[f"inflating alone, {name}"] = partial(_inflate, inflate)
        found["checksums alone, zlib"] = lambda data: np.array(zlib.crc32(data))
    else:
        if simple := module("simplejpeg"):
            found["simplejpeg"] = lambda data: simple.decode_jpeg(data, "GRAY")
            found["simplejpeg, strict"] = lambda data: simple.decode_jpeg(data, "GRAY", strict=True)
            found["simplejpeg, fast DCT"] = lambda data: simple.decode_jpeg(
                data, "GRAY", fastdct=True
            )
        if codecs:
            found["imagecodecs jpeg8"] = codecs.jpeg8_decode
    return found


def encoders() -> dict[str, Encoder]:
    """The encoders to try, by name."""
    found: dict[str, Encoder] = {}
    strategies = {
        "default": zlib.Z_DEFAULT_STRATEGY,
        "filtered": zlib.Z_FILTERED,
        "rle": zlib.Z_RLE,
        "huffman": zlib.Z_HUFFMAN_ONLY,
        "fixed": zlib.Z_FIXED,
    }
    for level in (0, 1, 2, 3, 6):
        for name, strategy in strategies.items():
            if level in (1,) or name == "default":
                found[f"Pillow level {level} {name}"] = partial(_pillow_encode, level, strategy)
    if cv2 := module("cv2"):
        for level in (0, 1, 3):
            flags = [cv2.IMWRITE_PNG_COMPRESSION, level]
            found[f"OpenCV level {level}"] = partial(_opencv_encode, cv2, flags)
        flags = [cv2.IMWRITE_PNG_COMPRESSION, 1, cv2.IMWRITE_PNG_STRATEGY]
        flags.append(cv2.IMWRITE_PNG_STRATEGY_RLE)
        found["OpenCV level 1 rle"] = partial(_opencv_encode, cv2, flags)
    for name in ("zlib", "zlib_ng.zlib_ng", "isal.isal_zlib"):
        if deflate := module(name):
            found[f"rows by numpy, {name} level 1"] = partial(_row_filtered, deflate)
    if codecs := module("imagecodecs"):
        found["imagecodecs png level 1"] = lambda pixels: bytes(codecs.png_encode(pixels, level=1))
        found["imagecodecs spng level 1"] = lambda pixels: bytes(
            codecs.spng_encode(pixels, level=1)
        )
    return found


def _wuffs(wuffs: Any) -> Decoder:
    aux = importlib.import_module("pywuffs.aux")
    config = aux.ImageDecoderConfig()
    config.enabled_decoders = [wuffs.ImageDecoderType.PNG]
    config.pixel_format = wuffs.PixelFormat.Y
    decoder = aux.ImageDecoder(config)
    return lambda data: decoder.decode(data).pixbuf


def _pillow_png(data: bytes) -> NDArray[Any]:
    return np.asarray(PngImagePlugin.PngImageFile(BytesIO(data)))


def _inflate(library: Any, data: bytes) -> NDArray[np.uint8]:
    return np.frombuffer(library.decompress(_idat(data)), np.uint8)


def _opencv_encode(cv2: Any, flags: list[int], pixels_hwc: NDArray[np.uint8]) -> bytes:
    data: bytes = cv2.imencode(".png", pixels_hwc[..., ::-1], flags)[1].tobytes()
    return data


def _row_filtered(deflate: Any, pixels_hwc: NDArray[np.uint8]) -> bytes:
    """Write a PNG whose every row is stored as the difference to the row above (filter 2)."""
    height, width, channels = pixels_hwc.shape
    rows = pixels_hwc.reshape(height, width * channels)
    stored = np.empty((height, 1 + width * channels), np.uint8)
    stored[:, 0] = 2
    stored[0, 1:] = rows[0]
    np.subtract(rows[1:], rows[:-1], out=stored[1:, 1:])
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    chunks = ((b"IHDR", header), (b"IDAT", deflate.compress(stored, 1)), (b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))
        for kind, body in chunks
    )


def _pillow_encode(level: int, strategy: int, pixels_hwc: NDArray[np.uint8]) -> bytes:
    file = BytesIO()
    Image.fromarray(pixels_hwc).save(file, "PNG", compress_level=level, compress_type=strategy)
    return file.getvalue()


def _idat(data: bytes) -> bytes:
    parts, offset = [], 8
    while offset < len(data):
        length = int.from_bytes(data[offset : offset + 4], "big")
        if data[offset + 4 : offset + 8] == b"IDAT":
            parts.append(data[offset + 8 : offset + 8 + length])
        offset += 12 + length
    return b"".join(parts)


def module(name: str) -> Any:
    """Import a module, or return None where it is not installed."""
    try:
        return importlib.import_module(name)
    except ImportError:
        return None


if __name__ == "__main__":
    main()
