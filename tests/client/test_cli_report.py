"""What `cxr report` asks for and writes, and what it leaves when it fails."""

import re
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import grpc
import pytest

from cxr.v1 import chest_xray_pb2 as pb
from cxr_client.testing import FakeServer, Hold, default_answer, failure
from cxr_command import CXR, Run, names_in
from html_page import Element, fetched_by, hash_of, parse, policy_of

HOSTILE = "<img src=x onerror=alert(1)> \"'&amp;.png"


def rows_of(page: Element, section: str) -> list[Element]:
    return page.one("section", id=section).all("tbody")[0].all("tr")


def name_in(row: Element) -> str:
    return row.one("span", class_="name").text


def report_of(cxr: Run, *arguments: object) -> tuple[int, Element]:
    """Run `cxr report` and parse what it has written."""
    *_, output = arguments
    status, out, _ = cxr("report", *arguments[:-1], "--output", output)
    assert out == f"{output}\n"
    return status, parse(Path(str(output)).read_text("utf-8"))


def test_a_report_has_a_row_for_each_film_with_the_map_of_its_highest_score(
    cxr: Run, fake: FakeServer, folder: Path, tmp_path: Path
) -> None:
    status, page = report_of(cxr, folder, tmp_path / "report.html")
    assert status == 0
    rows = rows_of(page, "films")
    assert [name_in(row) for row in rows] == ["a.JPG", "z.png", "b/x.png", "b/c/y.jpeg"]
    for row in rows:
        (image,) = row.all("img")
        assert image.attributes["alt"] == f"{name_in(row)} with the heat map of Effusion"
        assert image.attributes["src"].startswith("data:image/jpeg;base64,")
        assert "Effusion0.750" in row.text
    request = fake.calls[-1].request
    assert request.render == pb.RenderOptions(
        kind=pb.RENDER_KIND_OVERLAY,
        frame=pb.RENDER_FRAME_ORIGINAL,
        format=pb.RENDER_FORMAT_JPEG,
        max_side_px=256,
        legend=False,
    )
    assert not request.labels


def test_the_films_of_a_report_come_from_a_list_too(cxr: Run, folder: Path, tmp_path: Path) -> None:
    listed, files = tmp_path / "list", [folder / "a.JPG", folder / "z.png"]
    listed.write_text("\n".join(map(str, files)))
    status, page = report_of(cxr, "--files-from", listed, tmp_path / "report.html")
    assert status == 0
    assert [name_in(row) for row in rows_of(page, "films")] == list(map(str, files))


def test_a_failure_is_listed_with_its_reason_and_costs_no_other_image(
    cxr: Run, fake: FakeServer, folder: Path, tmp_path: Path
) -> None:
    broken = failure("INVALID_ARGUMENT", "IMAGE_UNREADABLE", message="It is <b>broken</b>")
    fake.script(broken, rpc="Explain")
    files = [folder / "a.JPG", folder / "none.png", folder / "z.png"]
    status, page = report_of(cxr, "--jobs", 1, *files, tmp_path / "report.html")
    assert status == 1
    assert [name_in(row) for row in rows_of(page, "films")] == [str(folder / "z.png")]
    assert [[cell.text for cell in row.all("td")] for row in rows_of(page, "failures")] == [
        ["IMAGE_UNREADABLE", "It is <b>broken</b>"],
        ["FILE_UNREADABLE", "No such file or directory"],
    ]
    assert "1 film, 2 failed" in page.text


def test_the_page_says_which_model_answered_when_and_what_was_passed_over(
    cxr: Run, folder: Path, tmp_path: Path
) -> None:
    _, page = report_of(cxr, folder, tmp_path / "report.html")
    assert page.one("h1").text == folder.name
    assert "00" * 32 in page.one("section", id="model").text
    assert re.fullmatch(
        r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d[+-]\d\d:\d\d", page.one("time").attributes["datetime"]
    )
    assert "Not read: 1 DICOM report, 1 other file" in page.text


def test_the_notice_of_the_answers_is_on_the_page_and_below_each_printed_table(
    cxr: Run, folder: Path, tmp_path: Path
) -> None:
    _, page = report_of(cxr, folder, tmp_path / "report.html")
    notice = default_answer(pb.ExplainRequest()).notice  # type: ignore[attr-defined]
    assert page.one("footer").text.strip() == notice
    assert {foot.text.strip() for foot in page.all("tfoot")} == {notice}


def test_names_labels_messages_and_notices_are_text_and_no_markup(
    cxr: Run, fake: FakeServer, folder: Path, tmp_path: Path
) -> None:
    def hostile(request: Any) -> Any:
        answer: Any = default_answer(request)
        answer.notice = answer.model.name = answer.findings[0].label = HOSTILE
        answer.explanations[0].finding.label = HOSTILE
        answer.warnings.add(code=pb.WARNING_CODE_CROPPED, message=f"</script>{HOSTILE}")
        return answer

    def described(request: Any) -> Any:
        answer: Any = default_answer(request)
        answer.findings[0].label = answer.findings[0].reliability_note = HOSTILE
        answer.file_sha256[HOSTILE] = answer.notices[0] = answer.license = HOSTILE
        return answer

    (folder / HOSTILE).write_bytes(b"film")
    (folder / "\u202eright to left\n.png").write_bytes(b"film")
    (folder / "z\x07.png").write_bytes(b"film")
    fake.answer("Explain", hostile)
    fake.answer("DescribeModel", described)
    fake.script(failure("INVALID_ARGUMENT", "IMAGE_REFUSED", message=HOSTILE), rpc="Explain")
    status, page = report_of(cxr, "--jobs", 1, folder, tmp_path / "report.html")
    assert status == 1
    names = {name_in(row) for row in rows_of(page, "films") + rows_of(page, "failures")}
    assert {HOSTILE, " right to left .png", "z .png"} < names
    assert len(page.all("img")) == len(rows_of(page, "films"))
    assert len(page.all("script")) == len(page.all("style")) == 1
    assert fetched_by(page) == []


def test_the_page_refers_to_nothing_and_its_policy_admits_nothing_but_itself(
    cxr: Run, folder: Path, tmp_path: Path
) -> None:
    _, page = report_of(cxr, folder, tmp_path / "report.html")
    assert fetched_by(page) == []
    assert policy_of(page) == {
        "default-src": ["'none'"],
        "img-src": ["data:"],
        "style-src": [hash_of(page.one("style"))],
        "script-src": [hash_of(page.one("script"))],
        "base-uri": ["'none'"],
        "form-action": ["'none'"],
        "require-trusted-types-for": ["'script'"],
        "trusted-types": ["'none'"],
    }


def test_words_of_the_page_are_those_of_scores_and_never_a_verdict(
    cxr: Run, folder: Path, tmp_path: Path
) -> None:
    _, page = report_of(cxr, folder, tmp_path / "report.html")
    words = page.one("body").text.removesuffix(page.one("script").text)
    assert "%" not in words
    assert not re.search(r"\bnormal\b", words, re.IGNORECASE)


def test_films_of_another_model_than_the_described_one_are_told(
    cxr: Run, fake: FakeServer, folder: Path, tmp_path: Path
) -> None:
    def one_of_another_model(request: Any) -> Any:
        answer: Any = default_answer(request)
        if len(request.image) == 2:
            answer.model.weights_sha256 = "11" * 32
        return answer

    fake.answer("Explain", one_of_another_model)
    _, page = report_of(cxr, folder, tmp_path / "report.html")
    (warning,) = page.all("p", class_="other-model")
    assert "1 film scored by another model: fake 1, weights 1111" in warning.text
    assert "in float32." in warning.text


def test_scores_of_every_finding_are_in_the_row_in_the_order_of_the_model(
    cxr: Run, folder: Path, tmp_path: Path
) -> None:
    _, page = report_of(cxr, folder, tmp_path / "report.html")
    options = [option.text for option in page.one("select").all("option")]
    assert options == ["Highest score", "Effusion", "Cardiomegaly", "Nodule"]
    row = rows_of(page, "films")[0]
    assert row.attributes["data-scores"] == "0.75 0.25 0.125"
    assert (row.attributes["data-top"], row.attributes["data-above"]) == ("0", "0")
    assert "2 more" in row.one("summary").text
    assert "Cardiomegaly0.250" in row.one("details").text


def test_warnings_stand_beside_their_film_and_are_counted(
    cxr: Run, fake: FakeServer, folder: Path, tmp_path: Path
) -> None:
    def warned(request: Any) -> Any:
        answer: Any = default_answer(request)
        answer.warnings.add(code=pb.WARNING_CODE_PHANTOM_MODEL, message="It is a phantom.")
        if len(request.image) == 2:
            answer.warnings.add(code=pb.WARNING_CODE_CROPPED, message="It was cropped.")
        return answer

    fake.answer("Explain", warned)
    _, page = report_of(cxr, folder, tmp_path / "report.html")
    cells = [row.one("td", class_="warnings").text for row in rows_of(page, "films")]
    assert cells == ["It was cropped. CROPPED", "", "", ""]
    assert "Films with warnings: cropped 1" in page.text


@pytest.mark.parametrize("kind", ["a folder", "below a file", "a device"])
def test_a_bad_output_is_blamed_before_any_image_is_sent(
    cxr: Run, fake: FakeServer, folder: Path, kind: str
) -> None:
    below = folder / "notes.txt" / "report.html"
    output = {"a folder": folder, "below a file": below, "a device": Path("/dev/null")}[kind]
    status, out, err = cxr("report", folder, "--output", output)
    assert (status, out) == (2, "")
    assert err.startswith(f"cxr: --output {output}: ")
    assert not fake.calls


def test_a_server_out_of_reach_leaves_no_report(cxr: Run, folder: Path, tmp_path: Path) -> None:
    arguments = ["--max-attempts", 1, "--server", "127.0.0.1:1", "--output", tmp_path / "o/r.html"]
    assert cxr("report", folder, *arguments)[0] == 3
    assert names_in(tmp_path / "o") == []


def test_an_outage_from_the_first_image_on_leaves_the_last_report(
    cxr: Run, fake: FakeServer, folder: Path, tmp_path: Path
) -> None:
    output = tmp_path / "o" / "report.html"
    output.parent.mkdir()
    output.write_text("the last one")
    fake.script(*[failure(grpc.StatusCode.UNAUTHENTICATED)] * 4, rpc="Explain")
    assert cxr("report", folder, "--output", output)[0] == 3
    assert output.read_text() == "the last one"
    assert names_in(output.parent) == ["report.html"]


@pytest.mark.usefixtures("interruptible")
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_an_interrupted_run_leaves_the_last_report_and_no_part_of_its_own(
    fake: FakeServer, folder: Path, tmp_path: Path, number: signal.Signals
) -> None:
    hold = Hold()
    fake.script(lambda _: None, hold, hold, hold, rpc="Explain")
    output = tmp_path / "o" / "report.html"
    output.parent.mkdir()
    output.write_text("the last one")
    command = [*CXR, "report", "--server", fake.address]
    command += ["--output", str(output), str(folder)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    assert hold.wait_entered()
    process.send_signal(number)
    out, _ = process.communicate(timeout=100)
    hold.release()
    assert process.returncode == (130 if number is signal.SIGINT else -number)
    assert out == b""
    assert output.read_text() == "the last one"
    assert names_in(output.parent) == ["report.html"]


def test_a_disk_that_does_not_take_the_report_is_told_and_no_part_is_left(
    fake: FakeServer, folder: Path, tmp_path: Path
) -> None:
    limit = "import resource; resource.setrlimit(resource.RLIMIT_FSIZE, (5000, 5000)); "
    command = [sys.executable, "-c", limit + CXR[2], "report", "--server", fake.address]
    command += ["--output", str(tmp_path / "o" / "report.html"), str(folder)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=100)
    assert (done.returncode, done.stdout) == (1, "")
    assert f"cxr: cannot write {tmp_path}/o/report.html: File too large" in done.stderr
    assert names_in(tmp_path / "o") == []


@pytest.mark.slow
def test_memory_does_not_grow_with_the_number_of_films(fake: FakeServer, tmp_path: Path) -> None:
    def large(request: Any) -> Any:
        answer: Any = default_answer(request)
        answer.explanations[0].heatmap += bytes(2**19)
        return answer

    def peak_mib(films: int) -> float:
        films_folder = tmp_path / f"{films}"
        films_folder.mkdir()
        for number in range(films):
            (films_folder / f"{number}.png").write_bytes(b"film")
        output = tmp_path / f"{films}.html"
        tell = "import resource, sys; from cxr_client.cli import main; status = main(); "
        tell += "print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss); sys.exit(status)"
        command = [sys.executable, "-c", tell, "report", "-q", "--server", fake.address]
        command += ["--jobs", "1", "--output", str(output), str(films_folder)]
        done = subprocess.run(command, capture_output=True, text=True, timeout=100, check=True)
        return int(done.stdout.split()[-1]) / 1024

    fake.answer("Explain", large)
    ten, many = peak_mib(10), peak_mib(120)
    assert (tmp_path / "120.html").stat().st_size > 78 * 2**20
    assert many - ten < 40
