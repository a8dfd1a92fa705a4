"""Stored values become what torchxrayvision reads, by its own function."""

from importlib.resources import files
from pathlib import Path

import numpy as np
import pytest

import dicom_files
from cxr_server.imaging.codecs import decode
from cxr_server.imaging.radiograph import DecodeOptions, DicomPresentation
from images import chest_like

pytestmark = [
    pytest.mark.torch,
    pytest.mark.filterwarnings("ignore:Converting MONOCHROME1:UserWarning"),  # as it should
]
STORED = DecodeOptions(DicomPresentation.STORED)
RADIOGRAPHS = files("data_store").joinpath("data")


def assert_equal(path: Path) -> None:
    from cxr_server.inference.engines.torch.network import xrv

    expected_hw = xrv.utils.read_xray_dcm(str(path))
    radiograph = decode(path.read_bytes(), options=STORED)
    network_hw = (2 * radiograph.pixels_hw.astype(np.float64) / radiograph.max_value - 1) * 1024
    assert np.abs(network_hw - expected_hw).max() < 0.02


@pytest.mark.parametrize("name", ["RG1_UNCR.dcm", "RG3_UNCR.dcm"])
def test_real_computed_radiographs_equal_its_reading(name: str) -> None:
    assert_equal(Path(str(RADIOGRAPHS.joinpath(name))))


@pytest.mark.parametrize("photometric", ["MONOCHROME1", "MONOCHROME2"])
@pytest.mark.parametrize("bits", [8, 10, 12, 15, 16])
def test_every_depth_equals_its_reading(tmp_path: Path, photometric: str, bits: int) -> None:
    greys_hw = chest_like(96, 80).astype(np.float64) / 255 * (2**bits - 1)
    stored_hw = np.rint(greys_hw).astype("u1" if bits <= 8 else "u2")
    path = tmp_path / "film.dcm"
    path.write_bytes(
        dicom_files.dicom(
            stored_hw, bits, PhotometricInterpretation=photometric, WindowCenter=9, WindowWidth=9
        )
    )
    assert_equal(path)
