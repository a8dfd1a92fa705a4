"""DICOM files for the tests, written by pydicom; codestreams by imagecodecs, pydicom and dcmtk."""

from io import BytesIO
from typing import Any

import imagecodecs
import numpy as np
from numpy.typing import NDArray
from pydicom import uid
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.encaps import encapsulate
from pydicom.filewriter import dcmwrite

Stored = NDArray[np.integer[Any]]

ENCODERS: dict[str, Any] = {
    uid.JPEGBaseline8Bit: lambda a, bits: imagecodecs.jpeg8_encode(a, level=100),
    uid.JPEGExtended12Bit: lambda a, bits: imagecodecs.jpeg8_encode(a, level=100, bitspersample=12),
    uid.JPEGLossless: lambda a, bits: imagecodecs.jpeg8_encode(
        a, lossless=True, predictor=6, bitspersample=bits
    ),
    uid.JPEGLosslessSV1: lambda a, bits: imagecodecs.jpeg8_encode(
        a, lossless=True, predictor=1, bitspersample=bits
    ),
    uid.JPEGLSLossless: lambda a, bits: imagecodecs.jpegls_encode(a),
    uid.JPEGLSNearLossless: lambda a, bits: imagecodecs.jpegls_encode(a, level=2),
    uid.JPEG2000Lossless: lambda a, bits: imagecodecs.jpeg2k_encode(
        a, level=0, reversible=True, codecformat="J2K", bitspersample=bits
    ),
    uid.JPEG2000: lambda a, bits: imagecodecs.jpeg2k_encode(
        a, level=80, reversible=False, codecformat="J2K", bitspersample=bits
    ),
    uid.HTJ2KLossless: lambda a, bits: imagecodecs.htj2k_encode(a),
    uid.HTJ2KLosslessRPCL: lambda a, bits: imagecodecs.htj2k_encode(a),
    uid.HTJ2K: lambda a, bits: imagecodecs.htj2k_encode(a),
}
"""Transfer syntax -> encoder of unsigned cells and their bits stored."""
NATIVE = (
    uid.ImplicitVRLittleEndian,
    uid.ExplicitVRLittleEndian,
    uid.DeflatedExplicitVRLittleEndian,
    uid.ExplicitVRBigEndian,
)


def dataset(stored_hw: Stored, bits_stored: int, **attributes: Any) -> Dataset:
    """Return an image without its pixels; attributes of the value None are left out."""
    height_px, width_px = stored_hw.shape
    values: dict[str, Any] = {
        "SOPClassUID": "1.2.840.10008.5.1.4.1.1.1.1",  # Digital X-Ray Image, for presentation
        "SOPInstanceUID": "1.2.3",
        "Modality": "DX",
        "PatientName": "Nobody^Real",
        "Rows": height_px,
        "Columns": width_px,
        "SamplesPerPixel": 1,
        "PhotometricInterpretation": "MONOCHROME2",
        "BitsAllocated": 8 * stored_hw.itemsize,
        "BitsStored": bits_stored,
        "HighBit": bits_stored - 1,
        "PixelRepresentation": int(stored_hw.dtype.kind == "i"),
        **attributes,
    }
    made = Dataset()
    for name, value in values.items():
        if value is not None:
            setattr(made, name, value)
    return made


def write(made: Dataset, syntax: str = uid.ExplicitVRLittleEndian) -> bytes:
    """Return a dataset as a file."""
    made.file_meta = FileMetaDataset()
    made.file_meta.TransferSyntaxUID = uid.UID(syntax)
    made.file_meta.MediaStorageSOPClassUID = made.SOPClassUID
    made.file_meta.MediaStorageSOPInstanceUID = made.SOPInstanceUID
    file = BytesIO()
    dcmwrite(file, made, enforce_file_format=True)
    return file.getvalue()


def dicom(
    stored_hw: Stored,
    bits_stored: int = 12,
    syntax: str = uid.ExplicitVRLittleEndian,
    **attributes: Any,
) -> bytes:
    """Return a DICOM file of stored values in a transfer syntax."""
    made = dataset(stored_hw, bits_stored, **attributes)
    mask = 2**bits_stored - 1
    unsigned_hw = (stored_hw.astype(np.int64) & mask).astype(f"u{stored_hw.itemsize}")
    if syntax in NATIVE:
        order = ">" if syntax == uid.ExplicitVRBigEndian else "<"
        # Negative values are extended into the cell.
        made.PixelData = stored_hw.astype(
            f"{order}{stored_hw.dtype.kind}{stored_hw.itemsize}"
        ).tobytes()
        made["PixelData"].VR = "OW" if stored_hw.itemsize == 2 else "OB"
        return write(made, syntax)
    if syntax == uid.RLELossless:
        made.file_meta = FileMetaDataset()
        made.file_meta.TransferSyntaxUID = uid.ExplicitVRLittleEndian
        made.PixelData = unsigned_hw.tobytes()
        made.compress(uid.RLELossless, encoding_plugin="pydicom", generate_instance_uid=False)
        return write(made, syntax)
    frame = ENCODERS[syntax](unsigned_hw, bits_stored)
    return encapsulated(made, bytes(frame), syntax)


def lookup_table(first: int, entries: list[int], bits: int, *, packed: bool = False) -> Dataset:
    """Return an item of a LUT sequence; its entries are words, or packed bytes."""
    item = Dataset()
    descriptor = [len(entries) % 65_536, first, bits]  # 0 stands for 65,536
    item.add_new(0x0028_3002, "US" if first >= 0 else "SS", descriptor)
    item.add_new(0x0028_3006, "OW", np.array(entries, "u1" if packed else "<u2").tobytes())
    return item


def encapsulated(made: Dataset, frame: bytes, syntax: str) -> bytes:
    """Return a dataset with an encoded frame as a file."""
    return with_fragments(made, encapsulate([frame]), syntax)


def with_fragments(made: Dataset, fragments: bytes, syntax: str) -> bytes:
    """Return a dataset with an offset table and fragments as a file."""
    made.PixelData = fragments
    made["PixelData"].VR = "OB"
    made["PixelData"].is_undefined_length = True
    return write(made, syntax)
