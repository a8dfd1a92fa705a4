"""Sample files, and the films that the server ships."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from cxr_phantom.__main__ import main
from cxr_phantom.draw import draw_phantom
from cxr_phantom.findings import FINDINGS
from cxr_phantom.samples import SELECTIONS, write_samples
from cxr_server.bundles.store import SAMPLES_PATH


@pytest.fixture(scope="module")
def redrawn(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    return write_samples(tmp_path_factory.mktemp("samples"))


def test_the_shipped_films_are_those_that_draw_makes_by_default(redrawn: list[Path]) -> None:
    shipped = sorted(SAMPLES_PATH.iterdir())
    assert [path.name for path in shipped] == sorted(path.name for path in redrawn)


@pytest.mark.parametrize("number", range(len(SELECTIONS)))
def test_a_shipped_film_is_drawn_again_pixel_by_pixel(redrawn: list[Path], number: int) -> None:
    path = redrawn[number]
    with Image.open(path) as ours, Image.open(SAMPLES_PATH / path.name) as shipped:
        assert shipped.mode == ours.mode == "L"
        difference = np.abs(np.asarray(ours).astype(int) - np.asarray(shipped))
    # numpy's exp and sqrt may differ in the last bit between processors, and rounding shows that.
    assert difference.max() <= 1
    assert np.mean(difference > 0) < 1e-3


def test_samples_are_named_after_what_is_planted_in_them(tmp_path: Path) -> None:
    paths = write_samples(tmp_path / "new", count=8, size_px=96, first_seed=40)
    alone = [f"phantom-{name.lower()}-{40 + n}.png" for n, name in enumerate(FINDINGS)]
    others = ["phantom-nothing-46.png", "phantom-cardiomegaly-effusion-47.png"]
    assert [path.name for path in paths] == alone + others
    assert sorted((tmp_path / "new").iterdir()) == sorted(paths)


def test_a_sample_file_holds_the_drawn_pixels(tmp_path: Path) -> None:
    (path,) = write_samples(tmp_path, count=1, size_px=128, first_seed=9)
    with Image.open(path) as image:
        assert image.mode == "L"
        np.testing.assert_array_equal(
            np.asarray(image), draw_phantom(9, ["Cardiomegaly"], 128).pixels_hw
        )


def test_masks_are_written_apart_from_the_films(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["draw", "--output", str(tmp_path), "--count", "2", "--size", "128", "--masks"]
    assert main(words) == 0
    names = sorted(path.name for path in (tmp_path / "masks").iterdir())
    assert names == ["phantom-cardiomegaly-0.cardiomegaly.png", "phantom-effusion-1.effusion.png"]
    assert capsys.readouterr().out.split() == sorted(map(str, tmp_path.glob("*.png")))
    with Image.open(tmp_path / "masks" / names[1]) as image:
        np.testing.assert_array_equal(
            np.asarray(image) == 255, draw_phantom(1, ["Effusion"], 128).masks["Effusion"]
        )


@pytest.mark.parametrize("words", [["--count", "0"], ["--size", "1"], ["--seed", "-1"]])
def test_the_command_refuses_what_cannot_be_drawn(
    words: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["draw", "--output", str(tmp_path), *words]) == 1
    assert capsys.readouterr().err.startswith("cxr-phantom: ")
