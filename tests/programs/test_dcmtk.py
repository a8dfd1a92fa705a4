"""DICOM written by dcmtk (Debian package `dcmtk`), which shares no code with our decoders."""

import shutil

import pytest

import dicom_table

pytestmark = pytest.mark.programs


def test_files_of_every_syntax_score_as_the_same_pixels_in_a_png() -> None:
    assert shutil.which("dcmcjpeg")
    rows = [row for row in dicom_table.rows() if row.encoder == "dcmtk"]
    assert len(rows) > 80
    assert len({row.syntax for row in rows}) == len(dicom_table.DCMTK)
    for row in rows:
        limit = 5 * dicom_table.MAX_DIFFERENCE if row.is_lossy else dicom_table.MAX_DIFFERENCE
        assert row.score_difference < limit, row
