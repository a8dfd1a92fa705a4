"""Scores of DICOM files against the same pixels as a 16-bit PNG.

Run it from tests/: `python -m dicom_table`.

Every transfer syntax, photometric interpretation, depth and signedness that can be written, by
imagecodecs, pydicom and, where it is installed, dcmtk. Prints one row for each: the greatest
difference of a score, and the CPU time of decoding and preprocessing.
"""

import itertools
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import imagecodecs
import numpy as np
from numpy.typing import NDArray
from pydicom import uid

from cxr_server.bundles.load import load_bundle
from cxr_server.bundles.store import resolve
from cxr_server.imaging.codecs import decode
from cxr_server.inference.engines.registry import choose_engine
from cxr_server.inference.preprocess import XRV
from cxr_server.inference.scoring import findings
from dicom_files import ENCODERS, NATIVE, dicom
from images import chest_like, png

SIDE_PX = 512
MAX_DIFFERENCE = 1e-3
LOSSY = {uid.JPEGBaseline8Bit, uid.JPEGExtended12Bit, uid.JPEGLSNearLossless, uid.JPEG2000}
"""Syntaxes that change pixels, and with them scores, by what their encoder was asked for."""
DEPTHS = ((8, False), (10, False), (12, False), (15, False), (16, False), (12, True), (16, True))
DCMTK = {
    uid.JPEGLosslessSV1: ("dcmcjpeg", "+e1"),
    uid.JPEGLossless: ("dcmcjpeg", "+el"),
    uid.JPEGExtended12Bit: ("dcmcjpeg", "+ee", "+q", "100", "+sr"),
    uid.JPEGBaseline8Bit: ("dcmcjpeg", "+eb", "+q", "100", "+sr"),
    uid.JPEGLSLossless: ("dcmcjpls", "+el"),
    uid.RLELossless: ("dcmcrle",),
    uid.ExplicitVRBigEndian: ("dcmconv", "+tb"),
    uid.ImplicitVRLittleEndian: ("dcmconv", "+ti"),
    uid.DeflatedExplicitVRLittleEndian: ("dcmconv", "+td"),
}
"""Transfer syntax -> dcmtk's program and options that write it from explicit little endian."""


class Row(NamedTuple):
    """One file: how it was written, and how its scores compare."""

    syntax: str
    encoder: str
    photometric: str
    bits: int
    is_signed: bool
    score_difference: float
    cpu_ms: float
    is_lossy: bool


def stored(bits: int, *, is_signed: bool) -> NDArray[Any]:
    """Return a radiograph in the range of a depth."""
    share = chest_like(SIDE_PX, SIDE_PX).astype(np.float64) / 255
    values = np.rint(share * (2**bits - 1)).astype(np.int64)
    kind, size = ("i" if is_signed else "u"), (1 if bits <= 8 else 2)
    return (values - 2 ** (bits - 1) * is_signed).astype(f"{kind}{size}")


def files() -> Iterator[tuple[str, str, str, int, bool, bytes]]:
    """Yield syntax, encoder, photometric interpretation, depth, signedness and file."""
    syntaxes = (*NATIVE, *ENCODERS, uid.RLELossless)
    kinds = itertools.product(("MONOCHROME2", "MONOCHROME1"), DEPTHS)
    for photometric, (bits, is_signed) in kinds:
        stored_hw = stored(bits, is_signed=is_signed)
        attributes = {"PhotometricInterpretation": photometric}
        for syntax in syntaxes:
            if not can_hold(syntax, bits, is_signed=is_signed):
                continue
            by = "imagecodecs" if syntax in ENCODERS else "pydicom"
            yield (
                syntax,
                by,
                photometric,
                bits,
                is_signed,
                dicom(stored_hw, bits, syntax, **attributes),
            )
        for syntax, command in DCMTK.items():
            if shutil.which(command[0]) and can_hold(syntax, bits, is_signed=is_signed):
                explicit = dicom(stored_hw, bits, **attributes)
                if file := written_by_dcmtk(explicit, command):
                    yield syntax, "dcmtk", photometric, bits, is_signed, file


def can_hold(syntax: str, bits: int, *, is_signed: bool) -> bool:
    """Whether a transfer syntax and its encoders here can hold the values."""
    if syntax == uid.JPEGBaseline8Bit:
        return bits == 8 and not is_signed
    if syntax == uid.JPEGExtended12Bit:
        return 8 < bits <= 12 and not is_signed
    # Near-lossless JPEG-LS codes negative values by their bits: an error of 2 may become 4,095.
    return not (syntax == uid.JPEGLSNearLossless and is_signed)


def written_by_dcmtk(explicit: bytes, command: tuple[str, ...]) -> bytes | None:
    """Return what dcmtk makes of a file; None if it refuses."""
    with tempfile.TemporaryDirectory() as folder:
        source, target = Path(folder) / "source.dcm", Path(folder) / "target.dcm"
        source.write_bytes(explicit)
        done = subprocess.run([*command, str(source), str(target)], capture_output=True)
        return target.read_bytes() if done.returncode == 0 and target.exists() else None


def rows() -> Iterator[Row]:
    """Score each file and its PNG with the phantom model."""
    bundle = load_bundle(resolve("phantom"))
    engine = choose_engine(bundle, "openvino", device=None, cache_dir=None, threads=None)

    def scores(file: bytes) -> tuple[NDArray[Any], float]:
        start_s = time.thread_time()
        image_chw = XRV.image_chw(decode(file), 224)
        cpu_ms = 1000 * (time.thread_time() - start_s)
        evidence = engine.evidence(image_chw[None])[0]
        return np.array([each.score for each in findings(evidence, bundle.manifest)]), cpu_ms

    for syntax, by, photometric, bits, is_signed, file in files():
        lowest = -(2 ** (bits - 1)) * is_signed
        share = (stored(bits, is_signed=is_signed).astype(np.float64) - lowest) / (2**bits - 1)
        if photometric == "MONOCHROME1":
            share = 1 - share
        expected, _ = scores(png(np.rint(share * 65_535).astype(np.uint16)))
        got, cpu_ms = scores(file)
        difference = float(np.abs(got - expected).max())
        name = uid.UID(syntax).name
        is_lossy = syntax in LOSSY
        yield Row(name, by, photometric, bits, is_signed, difference, cpu_ms, is_lossy)
    engine.close()


def main() -> int:
    """Print the table. Returns 1 if a score of a lossless file differs by `MAX_DIFFERENCE`."""
    print(f"imagecodecs {imagecodecs.__version__}, {SIDE_PX} x {SIDE_PX} pixels")
    print("| syntax | encoder | photometric | bits | signed | score difference | CPU ms |")
    print("|---|---|---|---|---|---|---|")
    worst = {False: 0.0, True: 0.0}
    for row in rows():
        signed = "yes" if row.is_signed else "no"
        print(
            f"| {row.syntax} | {row.encoder} | {row.photometric} | {row.bits} | {signed} "
            f"| {row.score_difference:.1e} | {row.cpu_ms:.1f} |"
        )
        worst[row.is_lossy] = max(worst[row.is_lossy], row.score_difference)
    print(f"greatest difference: lossless {worst[False]:.1e}, lossy {worst[True]:.1e}")
    return int(worst[False] > MAX_DIFFERENCE)


if __name__ == "__main__":
    sys.exit(main())
