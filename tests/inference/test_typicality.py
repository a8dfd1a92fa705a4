"""How usual an image is among the films of a reference."""

import os
import shutil
from functools import cache
from io import BytesIO
from pathlib import Path

import msgspec
import numpy as np
import openvino
import pytest
import skimage.data
from PIL import Image

from cxr_phantom.draw import draw_phantom
from cxr_phantom.pack import drawn_embeddings
from cxr_server.__main__ import main
from cxr_server.bundles.load import Bundle, file_entry, load_bundle
from cxr_server.bundles.manifest import BundleError
from cxr_server.bundles.store import PHANTOM_PATH
from cxr_server.convert.reference import add_reference
from cxr_server.imaging.codecs import decode
from cxr_server.imaging.radiograph import Radiograph
from cxr_server.inference.engines import infer
from cxr_server.inference.engines.openvino import OpenVINOEngine
from cxr_server.inference.preprocess import XRV
from cxr_server.inference.typicality import MIN_FILMS, UNTYPICAL_BELOW, fit, load_reference

CHANCE = np.random.default_rng(3)
AXES = np.linalg.qr(CHANCE.normal(size=(40, 40)))[0].astype(np.float32)
"""Orthonormal rows: the embeddings vary most along the first, least along the last."""


def films(count: int) -> np.ndarray:
    """Embeddings of one kind, correlated, with few directions that vary much."""
    scale = np.geomspace(5, 0.5, 40)
    return (CHANCE.normal(size=(count, 40)) * scale @ AXES).astype(np.float32)


@pytest.mark.parametrize("count", [MIN_FILMS, 400])
def test_new_films_of_the_same_kind_spread_over_all_percentiles(count: int) -> None:
    reference = fit(films(count))
    found = np.array([reference.typicality(each) for each in films(1000)])
    assert 0 <= found.min() <= found.max() <= 1
    assert abs(found.mean() - 0.5) < 0.15
    assert (found < UNTYPICAL_BELOW).mean() < 0.08


def test_the_same_step_is_untypical_where_the_reference_hardly_varies() -> None:
    reference = fit(films(400))
    usual, step = films(50), 7
    along = [reference.typicality(each + step * AXES[0]) for each in usual]
    across = [reference.typicality(each + step * AXES[-1]) for each in usual]
    assert np.mean(along) > 0.1
    assert max(across) < UNTYPICAL_BELOW


def test_wrong_films_in_the_folder_hardly_matter() -> None:
    right = films(400)
    wrong = right.copy()
    wrong[7::40] += 300 * AXES[-1]
    away = films(1)[0] + 10 * AXES[-1]
    assert fit(right).typicality(away) < UNTYPICAL_BELOW
    assert fit(wrong).typicality(away) < 0.05  # of which the wrong films are a half


def test_films_that_are_all_the_same_make_a_reference() -> None:
    reference = fit(np.ones((MIN_FILMS, 8), np.float32))
    assert reference.typicality(np.full(8, 2, np.float32)) == 0


def test_too_few_films_are_refused() -> None:
    with pytest.raises(BundleError, match="needs 50 films or more, and there are 49"):
        fit(films(MIN_FILMS - 1))


@cache
def engine_of(weights_sha256: str) -> OpenVINOEngine:
    """The engine of the shipped weights, compiled once."""
    bundle = load_bundle(PHANTOM_PATH)
    assert bundle.manifest.weights_sha256 == weights_sha256
    return OpenVINOEngine(bundle)


def typicality_of(bundle: Bundle, pixels: list[np.ndarray]) -> list[float]:
    reference, engine = load_reference(bundle), engine_of(bundle.manifest.weights_sha256)
    assert reference is not None
    found = []
    for pixels_hw in pixels:
        image_chw = XRV.image_chw(Radiograph(pixels_hw, 255, "PNG", 8), 224)
        embedding_nc = infer(engine, [image_chw]).embedding_nc
        assert embedding_nc is not None
        found.append(reference.typicality(embedding_nc[0]))
    return found


def test_the_phantom_knows_its_drawn_films_and_no_photograph(phantom_bundle: Bundle) -> None:
    drawn = [draw_phantom(seed, size_px=(224, 512)[seed % 2]).pixels_hw for seed in range(16)]
    flagged = np.array(typicality_of(phantom_bundle, drawn)) < UNTYPICAL_BELOW
    assert flagged.mean() < 0.1
    pictures = [skimage.data.camera(), skimage.data.coins(), skimage.data.moon(), drawn[0].T.copy()]
    assert max(typicality_of(phantom_bundle, pictures)) < UNTYPICAL_BELOW


def test_real_films_are_untypical_to_the_phantom_and_its_samples_are_not(
    phantom_bundle: Bundle, radiographs: list[Path]
) -> None:
    pixels = [decode(file.read_bytes()).display_hw() for file in radiographs]
    found = typicality_of(phantom_bundle, pixels)
    are_real = "CXR_TEST_RADIOGRAPHS" in os.environ
    assert [each < UNTYPICAL_BELOW for each in found] == [are_real] * len(found)


@pytest.mark.slow
def test_the_phantoms_reference_can_be_made_again(phantom_bundle: Bundle, tmp_path: Path) -> None:
    copy = load_bundle(Path(shutil.copytree(phantom_bundle.path, tmp_path / "copy")))
    made = add_reference(copy, drawn_embeddings(copy, 100, 60))
    assert made.manifest.reference
    assert made.manifest.reference.films == 60
    assert made.manifest.reference.weights_sha256 == phantom_bundle.manifest.weights_sha256
    assert sorted(path.name for path in tmp_path.iterdir()) == ["copy"]


def test_a_bundle_made_before_embeddings_serves_without_them(
    phantom_bundle: Bundle, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = Path(shutil.copytree(phantom_bundle.path, tmp_path / "old"))
    graph = openvino.Core().read_model(phantom_bundle.file("openvino/model.xml"))
    old = openvino.Model([graph.get_results()[0]], graph.get_parameters(), "old")
    openvino.save_model(old, folder / "openvino/model.xml", compress_to_fp16=False)
    names = ("openvino/model.xml", "openvino/model.bin")
    files = phantom_bundle.manifest.files | {name: file_entry(folder / name) for name in names}
    manifest = msgspec.structs.replace(phantom_bundle.manifest, files=files)
    (folder / "model.json").write_text(manifest.to_json())
    images = np.zeros((2, 1, 224, 224), np.float32)
    found = infer(OpenVINOEngine(load_bundle(folder)), [*images])
    assert found.embedding_nc is None
    expected = engine_of(phantom_bundle.manifest.weights_sha256).evidence(images)
    np.testing.assert_allclose(found.evidence_nkhw, expected, atol=1e-5)
    films_path = tmp_path / "films"
    films_path.mkdir()
    write_films(films_path, 1)
    assert main(["fit-reference", str(folder), str(films_path)]) == 1
    assert "prepare it again" in capsys.readouterr().err


def write_films(folder: Path, count: int) -> None:
    """Write a few drawings, each also shifted, since drawing takes its time."""
    drawn = [draw_phantom(seed, size_px=224).pixels_hw for seed in range(min(count, 10))]
    for number in range(count):
        pixels_hw = np.roll(drawn[number % 10], number // 10, axis=1)
        Image.fromarray(pixels_hw).save(folder / f"Doe, Jane {number}.png")


@pytest.mark.slow
def test_fit_reference_stores_what_a_folder_shows_and_no_names(
    phantom_bundle: Bundle, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    bundle_path = Path(shutil.copytree(phantom_bundle.path, tmp_path / "bundle"))
    folder = tmp_path / "films"
    folder.mkdir()
    write_films(folder, MIN_FILMS)
    (folder / "notes.txt").write_text("no image")
    photograph = BytesIO()
    Image.fromarray(skimage.data.camera()).save(photograph, "PNG")
    (folder / "camera.png").write_bytes(photograph.getvalue())
    assert main(["fit-reference", str(bundle_path), str(folder)]) == 0
    assert "50 films used; 2 files left out" in capsys.readouterr().out
    bundle = load_bundle(bundle_path)
    assert bundle.manifest.reference
    assert bundle.manifest.reference.films == MIN_FILMS
    for path in bundle_path.rglob("*"):
        assert path.is_dir() or b"Doe" not in path.read_bytes()
    (own,) = typicality_of(bundle, [draw_phantom(900).pixels_hw])
    assert own > 0


def test_fit_reference_changes_nothing_when_there_are_too_few_films(
    phantom_bundle: Bundle, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    bundle_path = Path(shutil.copytree(phantom_bundle.path, tmp_path / "bundle"))
    before = (bundle_path / "model.json").read_bytes()
    folder = tmp_path / "films"
    folder.mkdir()
    write_films(folder, 3)
    assert main(["fit-reference", str(bundle_path), str(folder)]) != 0
    assert "needs 50 films or more, and there are 3" in capsys.readouterr().err
    assert (bundle_path / "model.json").read_bytes() == before
