"""DICOM report: an answer of Explain -> a structured report and a secondary capture.

    film, ExplanationSet -> report -> structured  Comprehensive 3D SR, TID 1500, UNVERIFIED
                                   -> capture     colour secondary capture of the first picture

Both belong to the film's study, and both say that they are for research only. Requires the extra
`dicom-report` (pydicom and highdicom), which nothing else in the client imports.
"""

import hashlib
import uuid
from dataclasses import dataclass
from io import BytesIO
from typing import Any

import highdicom.sr as sr
import numpy as np
from highdicom.coding_schemes import CodingSchemeIdentificationItem
from highdicom.sc import SCImage
from pydicom import Dataset, dcmread
from pydicom.multival import MultiValue
from pydicom.sr.codedict import codes
from pydicom.sr.coding import Code
from pydicom.uid import ExplicitVRLittleEndian

from cxr_client.answer import Finding, ModelInfo
from cxr_client.enums import DicomPresentation, ExplanationMethod
from cxr_client.explanation import Explanation
from cxr_client.results import ExplanationSet

MANUFACTURER = "cxr-serve"
"""Manufacturer of the equipment in every object of this module; `is_report` looks for it."""

DESCRIPTION = "cxr-serve: RESEARCH ONLY, not for diagnosis"
"""Description of both series."""

_SCHEME = "99CXRSERVE"
_PLAIN_CHEST_XRAY = Code("399208008", "SCT", "Plain chest X-ray")
_SCORE = Code("score", _SCHEME, "Operating-point score: 0.5 at the operating point")
_PROBABILITY = Code("probability", _SCHEME, "Raw output of the network, uncalibrated")
_THRESHOLD = Code("threshold", _SCHEME, "Operating point: probability at a score of 0.5")
_ABOVE = Code("above_threshold", _SCHEME, "Above the model's operating point; not a diagnosis")
_REMARKS = Code("C0034375", "UMLS", "Qualitative Evaluations")  # TID 1500, row 12
_DERIVATION = "Map of a model's evidence over the radiograph. Research only, not for diagnosis."

_IDENTITY = (
    "AccessionNumber",
    "IssuerOfPatientID",
    "PatientAge",
    "PatientBirthDate",
    "PatientID",
    "PatientName",
    "PatientSex",
    "ReferringPhysicianName",
    "StudyDate",
    "StudyDescription",
    "StudyID",
    "StudyTime",
)
"""Attributes of patient and study that both objects share with the film."""


@dataclass(frozen=True, slots=True)
class Report:
    """The two objects that report on one film; `save_as` of each writes a file."""

    structured: Dataset
    capture: Dataset


def report(film: bytes | Dataset, explained: ExplanationSet) -> Report:
    """Return the report of a film.

    The same film, model and answer always give the same UIDs, so that an archive keeps one report
    however often it is written.

    Args:
        film: The DICOM file that was explained, or its dataset. Pixels are not needed.
        explained: The answer, with a picture of its first explanation in PNG or JPEG. Draw it
            with `RenderOptions(frame="ORIGINAL", legend=True)`: the legend names finding, score,
            model and use in the pixels.

    Raises:
        InvalidDicomError: The film is no DICOM file.
        KeyError: The film lacks one of its UIDs.
        ValueError: The answer has no picture, or is not of this film.
    """
    header, info = _header(film), explained.image_info
    if (header.Columns, header.Rows) != (info.width_px, info.height_px):
        raise ValueError("the answer is of an image of another size than the film")
    reference = _reference(header)
    capture = _capture(reference, explained)
    for keyword in ("BodyPartExamined", "BurnedInAnnotation", "Laterality", "PatientOrientation"):
        if keyword in header:
            capture[keyword] = header[keyword]
    _state_losses(capture, header, explained.explanations[0].heatmap)
    structured = _structured(reference, explained)
    return Report(_identified(structured, header), _identified(capture, header))


def structured_uid(film_uid: str, model: ModelInfo) -> str:
    """Return the SOP instance UID of the structured report on a film by a model.

    It is that of an answer to Explain without labels, method and presentation.
    """
    return _uid("structured", film_uid, model)


def is_report(dataset: Dataset) -> bool:
    """Return whether a dataset is one that this module writes."""
    return bool(dataset.get("Manufacturer") == MANUFACTURER)


def _header(film: bytes | Dataset) -> Dataset:
    return dcmread(BytesIO(film), stop_before_pixels=True) if isinstance(film, bytes) else film


def _reference(header: Dataset) -> Dataset:
    """Return what highdicom needs to know of a film, without its patient.

    highdicom refuses or logs values that it finds odd, and names are among them.
    """
    reference = Dataset()
    for keyword in ("SOPClassUID", "SOPInstanceUID", "StudyInstanceUID", "SeriesInstanceUID"):
        reference[keyword] = header[keyword]
    for keyword in _IDENTITY:
        setattr(reference, keyword, None)
    return reference


def _identified(made: Dataset, header: Dataset) -> Dataset:
    """Give an object the patient and study of its film, unchanged."""
    for keyword in _IDENTITY:
        if keyword in header:
            made[keyword] = header[keyword]
    return made


def _uid(what: str, film_uid: str, model: ModelInfo, *more: str) -> str:
    """Return a UID that is derived from a UUID (PS3.5 B.2), itself from these names."""
    # A model that is refitted or in int8 has the weights of its parent, and a version of its own.
    names = [MANUFACTURER, what, film_uid, model.weights_sha256, model.version]
    name = " ".join([*names, *filter(None, (model.reduced_precision, *more))])
    return f"2.25.{uuid.uuid5(uuid.NAMESPACE_OID, name).int}"


def _asked(explained: ExplanationSet) -> list[str]:
    """Return what was asked for beside the defaults: other findings, methods, stored values."""
    explanations, presentation = explained.explanations, explained.image_info.presentation
    labels = [each.finding.label for each in explanations]
    methods = [each.method for each in explanations]
    return [
        *(labels if labels != [explained.findings[0].label] else []),
        *(methods if set(methods) != {ExplanationMethod.GRAD_CAM} else []),
        *([presentation] if presentation is DicomPresentation.STORED else []),
    ]


def _identity(what: str, source: Dataset, explained: ExplanationSet, *more: str) -> dict[str, Any]:
    """Return the attributes of series, equipment and instance."""
    model = explained.model
    names = (source.SOPInstanceUID, model, *_asked(explained), *more)
    return {
        "series_instance_uid": _uid(f"series of {what}", *names),
        "sop_instance_uid": _uid(what, *names),
        "instance_number": 1,
        "manufacturer": MANUFACTURER,
        "manufacturer_model_name": model.name[:64],
        "software_versions": model.version[:64],
        "device_serial_number": model.weights_sha256,
        "series_description": DESCRIPTION,
        "content_qualification": "RESEARCH",
        "specific_character_set": "ISO_IR 192",  # UTF-8: names are written again in it
    }


def _structured(source: Dataset, explained: ExplanationSet) -> Dataset:
    model = explained.model
    device = sr.DeviceObserverIdentifyingAttributes(
        uid=_uid("device", "", model),
        name=MANUFACTURER,
        manufacturer_name=MANUFACTURER,
        model_name=model.name,
        serial_number=model.weights_sha256,
    )
    observer = sr.ObserverContext(codes.DCM.Device, device)
    explanations = {each.finding.label: each for each in explained.explanations}
    content = sr.MeasurementReport(
        observation_context=sr.ObservationContext(observer_device_context=observer),
        procedure_reported=_PLAIN_CHEST_XRAY,
        imaging_measurements=[
            _group(source, explained, finding, explanations.get(finding.label))
            for finding in explained.findings
        ],
    )
    content[0].ContentSequence.append(_remarks(explained))
    return sr.Comprehensive3DSR(
        evidence=[source],
        content=content,
        series_number=901,
        is_complete=True,
        is_verified=False,
        coding_schemes=[
            CodingSchemeIdentificationItem(
                _SCHEME,
                name="Labels and scores of cxr-serve",
                responsible_organization=MANUFACTURER,
            )
        ],
        **_identity("structured", source, explained),
    )


def _group(
    source: Dataset, explained: ExplanationSet, finding: Finding, explanation: Explanation | None
) -> sr.MeasurementsAndQualitativeEvaluations | sr.PlanarROIMeasurementsAndQualitativeEvaluations:
    """Return the measurements of one finding, with its strongest region if it has one.

    Labels are coded in a private scheme: a search of the archive for the SNOMED code of a disease
    would otherwise find low scores.
    """
    model = explained.model
    one = codes.UCUM.NoUnits
    numbers = {
        _SCORE: finding.score,
        _PROBABILITY: finding.probability,
        _THRESHOLD: finding.threshold,
    }
    shared: dict[str, Any] = {
        "tracking_identifier": sr.TrackingIdentifier(
            uid=_uid(f"group {finding.label}", source.SOPInstanceUID, model),
            identifier=finding.label,
        ),
        "finding_type": Code(finding.label, _SCHEME, finding.label[:64]),
        "algorithm_id": sr.AlgorithmIdentification(
            name=model.name,
            version=model.version,
            manufacturer=MANUFACTURER,
            parameters=[
                f"weights sha256 {model.weights_sha256}",
                *([f"precision {model.precision}"] if model.precision else []),
            ],
        ),
        "measurements": [
            sr.Measurement(name=name, value=round(value, 6), unit=one)
            for name, value in numbers.items()
        ],
        "qualitative_evaluations": [
            sr.QualitativeEvaluation(
                _ABOVE, codes.SCT.Yes if finding.above_threshold else codes.SCT.No
            )
        ],
    }
    uids = {
        "referenced_sop_class_uid": source.SOPClassUID,
        "referenced_sop_instance_uid": source.SOPInstanceUID,
    }
    if explanation is None or not explanation.regions:
        return sr.MeasurementsAndQualitativeEvaluations(
            source_images=[sr.SourceImageForMeasurementGroup(**uids)], **shared
        )
    box = explanation.regions[0].box
    x_px, y_px = (box.x_px, box.x_px + box.width_px), (box.y_px, box.y_px + box.height_px)
    corners = [(x_px[i], y_px[j]) for i, j in ((0, 0), (1, 0), (1, 1), (0, 1), (0, 0))]
    region = sr.ImageRegion(
        graphic_type=sr.GraphicTypeValues.POLYLINE,
        graphic_data=np.array(corners, dtype=np.float64),
        source_image=sr.SourceImageForRegion(**uids),
    )
    return sr.PlanarROIMeasurementsAndQualitativeEvaluations(referenced_region=region, **shared)


def _remarks(explained: ExplanationSet) -> sr.ContainerContentItem:
    """Return the notice, the meaning of regions and the warnings as text."""
    sentences = [
        explained.notice,
        "An outlined region shows what influenced the score. It is not an outline of disease.",
        *(f"{warning.code.name}: {warning.message}" for warning in explained.warnings),
    ]
    contains = sr.RelationshipTypeValues.CONTAINS
    container = sr.ContainerContentItem(_REMARKS, relationship_type=contains)
    container.ContentSequence = sr.ContentSequence(
        [sr.TextContentItem(codes.DCM.Comment, sentence, contains) for sentence in sentences]
    )
    return container


def _capture(source: Dataset, explained: ExplanationSet) -> Dataset:
    picture = explained.explanations[0].heatmap
    capture = SCImage.from_ref_dataset(
        source,
        pixel_array=np.asarray(explained.explanations[0].image().convert("RGB")),
        photometric_interpretation="RGB",
        bits_allocated=8,
        coordinate_system="PATIENT",
        patient_orientation=("L", "F"),  # required here, but only a film knows its own
        series_number=902,
        transfer_syntax_uid=ExplicitVRLittleEndian,
        # Another picture is another instance.
        **_identity("capture", source, explained, hashlib.sha256(picture).hexdigest()),
    )
    capture["PatientOrientation"].value = None
    capture.DerivationDescription = _DERIVATION
    film = Dataset()
    film.ReferencedSOPClassUID = source.SOPClassUID
    film.ReferencedSOPInstanceUID = source.SOPInstanceUID
    capture.SourceImageSequence = [film]
    return capture


def _state_losses(capture: Dataset, header: Dataset, picture: bytes) -> None:
    """State lossy compression of the film, which is never taken back, and of the picture.

    See PS3.3 C.7.6.1.1.5.
    """
    methods, ratios = [], []
    if header.get("LossyImageCompression") == "01":
        methods += _values(header.get("LossyImageCompressionMethod"))
        ratios += _values(header.get("LossyImageCompressionRatio"))
    is_jpeg = picture.startswith(b"\xff\xd8")
    if is_jpeg and len(methods) == len(ratios):  # the values belong together
        methods.append("ISO_10918_1")
        ratios.append(round(len(capture.PixelData) / len(picture), 1))
    if is_jpeg or header.get("LossyImageCompression") == "01":
        capture.LossyImageCompression = "01"
        capture.LossyImageCompressionMethod = methods
        capture.LossyImageCompressionRatio = ratios
    else:
        capture.LossyImageCompression = "00"


def _values(value: Any) -> list[Any]:
    return [] if value in (None, "") else list(value) if isinstance(value, MultiValue) else [value]
