"""Strip: an image file -> the same file without what a DICOM header says about the patient."""

import argparse
import io
from collections.abc import Callable
from importlib.util import find_spec

from cxr_client.cli.files import FileError, Job
from cxr_client.cli.sniff import HEAD_BYTES, kind_of
from cxr_client.cli.usage import UsageError
from cxr_client.images import file_of_dataset


def reader(arguments: argparse.Namespace) -> Callable[[Job], bytes]:
    """Return the function that reads an image to send, and strips it where that is asked for.

    Raises:
        UsageError: It is, and pydicom, which is no dependency of the client, is not installed.
    """
    if arguments.strip_header and find_spec("pydicom") is None:
        raise UsageError("--strip-header: needs pydicom, which is not installed")
    max_bytes = arguments.max_request_mib * 2**20

    def read(job: Job) -> bytes:
        data = job.read(max_bytes)
        # What is larger is cut, and will be refused instead of sent.
        return without_patient(data) if arguments.strip_header and len(data) <= max_bytes else data

    return read


def without_patient(data: bytes) -> bytes:
    """Return a DICOM file with the elements that say what the image is; PNG and JPEG unchanged.

    Raises:
        FileError: It is another file, or pydicom cannot read it: it must not be sent.
    """
    import pydicom

    if kind_of(data[:HEAD_BYTES]) in ("PNG", "JPEG"):
        return data
    try:
        return file_of_dataset(pydicom.dcmread(io.BytesIO(data)))
    except Exception:  # pydicom documents no common base of what it raises for broken files
        sentence = "Not sent: its header cannot be read, so patient data cannot be removed."
        raise FileError("HEADER_UNREADABLE", sentence) from None
