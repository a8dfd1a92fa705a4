"""Decode and encode: CPU time of libraries that could do it, and whether they hold the GIL.

`python -m benchmarks.decode`. CPU time rather than wall time, so that a busy machine matters less,
one thread each. A library that is not installed, or cannot read a kind of file, is left out; one
whose pixels differ from Pillow's is marked.
"""

import argparse
import importlib
import json
import statistics
import struct
import sys
import threading
import time
import zlib
from collections.abc import Callable
from functools import partial
from io import BytesIO
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from benchmarks import radiographs
from benchmarks.radiographs import Kind, encoded, film
from cxr_server.imaging.codecs import decode as own_decode

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
    print(f"{'decode':<28}{'CPU ms':>8}  GIL")
    for kind in kinds:
        data = encoded(kind)
        expected = np.asarray(Image.open(BytesIO(data)))
        tolerance = JPEG_TOLERANCE if kind.file_format == "JPEG" else 0
        print(f"{kind.name}, {len(data) / 1000:.0f} kB")
        for name, decoder in decoders(kind).items():
            try:
                pixels = np.squeeze(decoder(data)).astype(int)
            except Exception as error:
                print(f"    {name:<24}cannot: {type(error).__name__}")
                continue
            same = np.shape(pixels) == expected.shape and bool(
                np.abs(pixels - expected).max() <= tolerance
            )
            work = partial(decoder, data)
            ms, gil = cpu_ms(work, repeats), "released" if releases_gil(work) else "held"
            print(f"    {name:<24}{ms:8.2f}  {gil:<10}{'' if same else 'other pixels'}")
            rows.append({"kind": kind.name, "library": name, "ms": ms, "gil": gil})
    return rows


def encoding(sides: tuple[int, ...], repeats: int) -> list[dict[str, Any]]:
    """Time every encoder on overlays in colour."""
    rows = []
    for side_px in sides:
        overlay_hwc = overlay(side_px)
        print(f"encode {side_px} x {side_px} overlay, CPU ms, kB")
        for name, encoder in encoders().items():
            data = encoder(overlay_hwc)
            if not np.array_equal(np.asarray(Image.open(BytesIO(data))), overlay_hwc):
                raise ValueError(f"{name} wrote another picture")
            ms = cpu_ms(partial(encoder, overlay_hwc), repeats)
            print(f"    {name:<24}{ms:8.2f}{len(data) / 1000:9.0f}")
            rows.append({"side_px": side_px, "library": name, "ms": ms, "bytes": len(data)})
    return rows


def cpu_ms(work: Callable[[], object], repeats: int) -> float:
    """Median CPU time of one call, over `repeats`, after a warm-up."""
    work()
    times = []
    for _ in range(repeats):
        started = time.process_time()
        work()
        times.append(1000 * (time.process_time() - started))
    return statistics.median(times)


def releases_gil(work: Callable[[], object], tries: int = 7) -> bool:
    """Tell whether another Python thread gets more than two turns for each ms of a call."""
    count, done = 0, False

    def spin() -> None:
        nonlocal count
        while not done:
            count += 1
            time.sleep(0)  # lets go of the GIL

    spinner = threading.Thread(target=spin)
    interval_s = sys.getswitchinterval()
    sys.setswitchinterval(10)  # nobody is asked to let go of the GIL
    try:
        spinner.start()
        turns_per_ms = []
        for _ in range(tries):
            before, started = count, time.perf_counter()
            work()
            turns_per_ms.append((count - before) / (1000 * (time.perf_counter() - started)))
    finally:
        done = True
        sys.setswitchinterval(interval_s)
        spinner.join()
    return statistics.median(turns_per_ms) > 2


def overlay(side_px: int) -> NDArray[np.uint8]:
    """Return an overlay as the server draws them: a film half covered with smooth colour."""
    rows, columns = np.mgrid[0:side_px, 0:side_px] / side_px
    heat = np.exp(-((rows - 0.6) ** 2 + (columns - 0.35) ** 2) / 0.03)[..., None]
    color_hwc = np.concatenate([255 * heat, 160 * heat**2, 90 * (1 - heat)], axis=-1)
    blended_hwc = film(side_px, 0)[..., None] * (1 - heat / 2) + color_hwc * heat / 2
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
    codecs: Any = importlib.import_module("imagecodecs")
    if kind.file_format == "PNG":
        found["imagecodecs, libpng"] = codecs.png_decode
        found["imagecodecs, libspng"] = codecs.spng_decode
        if kornia := module("kornia_rs.io"):
            load = (
                kornia.decode_image_png_u16 if kind.bit_depth == 16 else kornia.decode_image_png_u8
            )
            found["kornia-rs"] = lambda data: load(data, (kind.side_px, kind.side_px), "mono")
    else:
        simple: Any = importlib.import_module("simplejpeg")
        found["simplejpeg, strict"] = lambda data: simple.decode_jpeg(data, "GRAY", strict=True)
        found["imagecodecs, jpeg8"] = codecs.jpeg8_decode
    return found


def encoders() -> dict[str, Encoder]:
    """The encoders to try, by name."""
    codecs: Any = importlib.import_module("imagecodecs")
    found: dict[str, Encoder] = {
        "Pillow, level 1": _pillow_encode,
        "imagecodecs, level 1": lambda pixels: bytes(codecs.png_encode(pixels, level=1)),
        "rows by numpy, zlib": partial(_row_filtered, zlib),
    }
    for name in ("isal.isal_zlib", "zlib_ng.zlib_ng"):
        if deflate := module(name):
            found[f"rows by numpy, {name.split('.')[0]}"] = partial(_row_filtered, deflate)
    return found


def _pillow_encode(pixels_hwc: NDArray[np.uint8]) -> bytes:
    file = BytesIO()
    Image.fromarray(pixels_hwc).save(file, "PNG", compress_level=1)
    return file.getvalue()


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


def module(name: str) -> Any:
    """Import a module, or return None if it is not installed."""
    try:
        return importlib.import_module(name)
    except ImportError:
        return None


if __name__ == "__main__":
    main()
