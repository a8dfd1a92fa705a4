"""What the page saves and copies is complete, carries the notice, and works elsewhere."""

import csv
import io
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image
from playwright.sync_api import Page

import viewer_page as seen
from cxr_client import Client, InvalidRequestError

pytestmark = pytest.mark.browser


def run(command: list[str], folder: Path) -> str:
    """Run a program where the film lies, with the tools of this environment; return its output."""
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    done = subprocess.run(
        command,
        cwd=folder,
        env={**os.environ, "PATH": path},
        capture_output=True,
        text=True,
        timeout=100,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_a_saved_picture_says_what_it_is_and_is_refused_by_the_server(
    page: Page, client: Client, film: Path
) -> None:
    seen.choose(page, film)
    seen.finding(page, "Effusion").click()
    name, content = seen.save(page, "PNG")
    assert name == "cardiomegaly-effusion-7-Effusion.png"
    with Image.open(io.BytesIO(content)) as picture:
        assert picture.height > picture.width == 512  # the caption is below the film
        mark = json.loads(picture.text["cxr-serve"])
    answer = client.explain(film, labels="Effusion")
    assert mark["finding"] == "Effusion"
    assert mark["notice"] == answer.notice
    assert mark["weights_sha256"] == answer.model.weights_sha256
    assert mark["precision"] == answer.model.precision == "float32"
    assert mark["score"] == pytest.approx(answer["Effusion"].finding.score, abs=1e-6)
    with pytest.raises(InvalidRequestError) as refused:
        client.predict(content)
    assert refused.value.reason == "IMAGE_IS_HEATMAP"


def test_a_saved_picture_says_what_it_is_even_if_another_film_is_opened_meanwhile(
    page: Page, client: Client, film: Path
) -> None:
    other = film.with_name("mass-4.png")
    seen.choose(page, film, other)
    page.evaluate(
        """() => {
          const encode = OffscreenCanvas.prototype.convertToBlob;
          const opened = new Promise((resolve) => (window.another = resolve));
          OffscreenCanvas.prototype.convertToBlob = async function (...options) {
            await opened;
            return encode.apply(this, options);
          };
        }"""
    )
    with page.expect_download() as waiting:
        page.keyboard.press("s")
        page.keyboard.press("PageDown")
        seen.expect_film(page, other.name)
        page.evaluate("window.another()")
    assert waiting.value.suggested_filename.startswith("cardiomegaly-effusion-7-")
    with Image.open(waiting.value.path()) as picture:
        mark = json.loads(picture.text["cxr-serve"])
    best = client.explain(film).findings[0]
    assert (mark["finding"], mark["score"]) == (best.label, pytest.approx(best.score, abs=1e-6))


def test_a_saved_comparison_shows_both_pictures(page: Page, client: Client, film: Path) -> None:
    seen.choose(page, film)
    page.get_by_label("Compare").check()
    _, content = seen.save(page, "PNG")
    with Image.open(io.BytesIO(content)) as picture:
        assert picture.width == 2 * 512 + 2  # a line between them
    with pytest.raises(InvalidRequestError):
        client.predict(content)


def test_saved_json_is_the_answer_of_the_server(page: Page, client: Client, film: Path) -> None:
    seen.choose(page, film)
    name, content = seen.save(page, "JSON")
    assert name == "cardiomegaly-effusion-7.json"
    saved = json.loads(content)
    answer = client.explain(film, labels=[f.label for f in client.describe_model().findings])
    expected = answer.to_dict()
    assert saved["file"] == film.name
    for part in ("findings", "model", "image_info", "warnings", "notice"):
        assert saved[part] == expected[part]
    grids = {each["finding"]["label"]: each["evidence"] for each in saved["explanations"]}
    assert grids == {
        each["finding"]["label"]: each["evidence"] for each in expected["explanations"]
    }


def test_saved_csv_has_a_row_for_each_finding_with_the_notice(
    page: Page, client: Client, film: Path
) -> None:
    seen.choose(page, film)
    name, content = seen.save(page, "CSV")
    assert name == "cardiomegaly-effusion-7.csv"
    rows = list(csv.DictReader(io.StringIO(content.decode())))
    expected = client.predict(film, top_k=100)
    assert [row["label"] for row in rows] == [finding.label for finding in expected.findings]
    for rank, (row, finding) in enumerate(zip(rows, expected.findings, strict=True), 1):
        assert int(row["rank"]) == rank
        assert float(row["score"]) == pytest.approx(finding.score, rel=1e-6)
        assert float(row["threshold"]) == pytest.approx(finding.threshold, rel=1e-6)
        assert row["above_threshold"] == str(finding.above_threshold).lower()
        assert row["notice"] == expected.notice
        assert row["weights_sha256"] == expected.model.weights_sha256
        assert row["precision"] == expected.model.precision


def test_the_csv_of_a_file_named_as_a_formula_is_no_formula(page: Page, film: Path) -> None:
    seen.choose(page, seen.payload("=1+1, x.png", film.read_bytes()))
    _, content = seen.save(page, "CSV")
    rows = list(csv.DictReader(io.StringIO(content.decode())))
    assert {row["file"] for row in rows} == {"'=1+1, x.png"}


@pytest.mark.parametrize("name", ["film.png", "it's 100% a $film.png"])
def test_the_copied_grpcurl_command_repeats_the_call(
    page: Page, client: Client, film: Path, tmp_path: Path, name: str
) -> None:
    (tmp_path / name).write_bytes(film.read_bytes())
    seen.choose(page, tmp_path / name)
    seen.finding(page, "Effusion").click()
    page.get_by_role("radio", name="Fixed").check()
    answer = json.loads(run(["bash", "-c", seen.copy(page, "grpcurl")], tmp_path))
    (explanation,) = answer["explanations"]
    assert explanation["finding"]["label"] == "Effusion"
    expected = client.predict(film)["Effusion"].score
    assert explanation["finding"]["score"] == pytest.approx(expected, rel=1e-6)
    assert explanation["heatmap"]


@pytest.mark.parametrize("name", ["film.png", "it's 100% a $film.png"])
def test_the_copied_program_repeats_the_call_and_saves_its_picture(
    page: Page, client: Client, film: Path, tmp_path: Path, name: str
) -> None:
    (tmp_path / name).write_bytes(film.read_bytes())
    seen.choose(page, tmp_path / name)
    page.get_by_label("Colours").select_option("Viridis")
    printed = run([sys.executable, "-c", seen.copy(page, "Python")], tmp_path)
    answer = client.predict(film)
    assert answer.notice in printed
    for finding in answer.findings:
        assert f"{finding.label} {finding.score} {finding.above_threshold}" in printed
    (picture,) = set(tmp_path.iterdir()) - {tmp_path / name}
    with Image.open(picture) as image:
        assert json.loads(image.text["cxr-serve"])["finding"] == "Cardiomegaly"


def test_the_key_s_saves_the_picture(page: Page, film: Path) -> None:
    seen.choose(page, film)
    with page.expect_download() as waiting:
        page.keyboard.press("s")
    assert waiting.value.suggested_filename.endswith(".png")
