"""Claims about the sample files."""

import subprocess
import sys
from pathlib import Path

import numpy as np
from PIL import Image

from cxr_phantom.draw import draw_phantom
from cxr_phantom.findings import FINDINGS
from cxr_phantom.samples import write_samples


def test_samples_are_named_after_what_is_planted_in_them(tmp_path: Path) -> None:
    paths = write_samples(tmp_path / "new", count=7, size_px=96, first_seed=40)
    expected = [f"phantom-{name.lower()}-{40 + n}.png" for n, name in enumerate(FINDINGS)]
    assert [path.name for path in paths] == [*expected, "phantom-nothing-46.png"]
    assert sorted((tmp_path / "new").iterdir()) == sorted(paths)


def test_a_sample_file_holds_the_drawn_pixels(tmp_path: Path) -> None:
    (path,) = write_samples(tmp_path, count=1, size_px=128, first_seed=9)
    with Image.open(path) as image:
        assert image.mode == "L"
        np.testing.assert_array_equal(
            np.asarray(image), draw_phantom(9, ["Cardiomegaly"], 128).pixels_hw
        )


def test_masks_are_written_apart_from_the_films(tmp_path: Path) -> None:
    paths = write_samples(tmp_path, count=2, size_px=128, masks=True)
    names = sorted(path.name for path in (tmp_path / "masks").iterdir())
    assert names == ["phantom-cardiomegaly-0.cardiomegaly.png", "phantom-effusion-1.effusion.png"]
    assert sorted(tmp_path.glob("*.png")) == sorted(paths)
    with Image.open(tmp_path / "masks" / names[1]) as image:
        np.testing.assert_array_equal(
            np.asarray(image) == 255, draw_phantom(1, ["Effusion"], 128).masks["Effusion"]
        )


def test_drawing_and_writing_samples_imports_no_torch() -> None:
    code = (
        "import sys, cxr_phantom.samples\n"
        "heavy = {'torch', 'torchvision', 'torchxrayvision', 'skimage', 'pandas'}\n"
        "sys.exit(', '.join(heavy & set(sys.modules)) or 0)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
