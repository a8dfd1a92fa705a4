"""Objects: refuses, by name, DICOM objects that are no images. Used by elements and attributes."""

from cxr_server.errors import ImageFormatUnsupported

_STORAGE = "1.2.840.10008.5.1.4.1.1."
_RADIOTHERAPY = "an object of radiotherapy"
_EYE = "a measurement of an eye"
_OBJECTS = {
    "1.2.840.10008.1.3.10.": "a DICOM directory",
    "1.2.840.10008.5.1.4.34.": _RADIOTHERAPY,
    "1.2.840.10008.5.1.4.38.": "a hanging protocol",
    "1.2.840.10008.5.1.4.39.": "a colour palette",
    "1.2.840.10008.5.1.4.43.": "an implant template",
    "1.2.840.10008.5.1.4.44.": "an implant template",
    "1.2.840.10008.5.1.4.45.": "an implant template",
    _STORAGE + "4.2.": "a spectroscopy",
    _STORAGE + "9.": "a waveform",
    _STORAGE + "11.": "a presentation state",
    _STORAGE + "66.1.": "a registration",
    _STORAGE + "66.2.": "a set of fiducials",
    _STORAGE + "66.3.": "a registration",
    _STORAGE + "66.4.": "a segmentation",
    _STORAGE + "66.5.": "a surface",
    _STORAGE + "66.6.": "a tractography",
    _STORAGE + "66.": "raw data",
    _STORAGE + "67.": "a mapping to real-world values",
    _STORAGE + "68.": "a surface",
    _STORAGE + "77.1.5.3.": "a relationship of stereo pairs",
    _STORAGE + "78.": _EYE,
    _STORAGE + "79.": _EYE,
    _STORAGE + "80.": _EYE,
    _STORAGE + "88.59.": "a selection of key objects",
    _STORAGE + "88.": "a structured report",
    _STORAGE + "90.": "an assessment of content",
    _STORAGE + "91.": "a set of annotations",
    _STORAGE + "104.": "an encapsulated document",
    _STORAGE + "131.": "a structured display",
    _STORAGE + "200.": "a protocol of a procedure",
    _STORAGE + "201.": "an inventory",
    _STORAGE + "481.2.": "a radiotherapy dose",
    _STORAGE + "481.3.": "a radiotherapy structure set",
    _STORAGE + "481.5.": "a radiotherapy plan",
    _STORAGE + "481.8.": "a radiotherapy plan",
    _STORAGE + "481.": _RADIOTHERAPY,
}
"""Beginning of the SOP class, a longer one first -> name (PS3.4, annex B.5; PS3.6, annex A)."""
_RADIOTHERAPY_IMAGES = tuple(f"{_STORAGE}481.{number}." for number in (1, 23, 24))


def refuse_objects(sop_class: bytes) -> None:
    """Raise ImageFormatUnsupported if this is the SOP class of an object that is no image."""
    beginning = sop_class.rstrip(b"\0 ").decode("ascii", "replace") + "."
    if beginning.startswith(_RADIOTHERAPY_IMAGES):
        return
    for start, name in _OBJECTS.items():
        if beginning.startswith(start):
            raise ImageFormatUnsupported(f"The DICOM file is {name}, not an image.")
