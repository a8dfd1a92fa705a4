"""Warnings about the view, from what the header says about the patient's position."""

import numpy as np
import pytest

import dicom_files
from cxr_server.imaging.codecs import decode
from cxr_server.imaging.radiograph import InputWarning

STORED_HW = np.zeros((40, 48), np.uint16)
ORIENTATIONS: dict[InputWarning | None, list[str]] = {
    None: [r"L\F", r"LA\F", r"LF\FR", r"L\P", "L", r"L\F\F", "", r"\F", r"L\ "],
    InputWarning.MIRRORED: [r"R\F", r"RP\F", r"L\H", r"F\L", r"H\R"],
    InputWarning.POSSIBLY_ROTATED: [r"R\H", r"F\R", r"H\L"],
    InputWarning.LATERAL_VIEW: [r"A\F", r"P\F", r"AL\F", r"F\A", r"H\P"],
}


@pytest.mark.parametrize("warning", ORIENTATIONS)
def test_rows_and_columns_together_tell_mirrored_turned_and_lateral_films(
    warning: InputWarning | None,
) -> None:
    for orientation in ORIENTATIONS[warning]:
        file = dicom_files.dicom(STORED_HW, 12, PatientOrientation=orientation)
        assert decode(file).warnings == ((warning,) if warning else ()), orientation


def test_decubitus_films_and_obliques_are_no_lateral_views() -> None:
    for view in ("PA", "AP", "LLD", "RLD", "LLO", "RLO", "LAT DECUB"):
        assert decode(dicom_files.dicom(STORED_HW, 12, ViewPosition=view)).warnings == ()
    for view in ("LL", "RL", "LATERAL", "LAT", "XTABLE LATERAL"):
        warnings = decode(dicom_files.dicom(STORED_HW, 12, ViewPosition=view)).warnings
        assert warnings == (InputWarning.LATERAL_VIEW,)


def test_a_chest_is_one_in_other_languages_too() -> None:
    for part in ("CHEST", "THORAX", "TORAX", "RX TORAX PA", "PECHO", "BRUST", "POITRINE"):
        assert decode(dicom_files.dicom(STORED_HW, 12, BodyPartExamined=part)).warnings == ()
    without_accent = dicom_files.dicom(STORED_HW, 12, BodyPartExamined="TORAX")
    assert decode(without_accent.replace(b"TORAX", b"T?RAX")).warnings == ()
    for part in ("HAND", "ABDOMEN", "SKULL"):
        warnings = decode(dicom_files.dicom(STORED_HW, 12, BodyPartExamined=part)).warnings
        assert warnings == (InputWarning.NOT_CHEST,)
