"""What `cxr predict` prints: a table, a line for each image, JSON, CSV."""

import csv
import json
import struct
import time
from io import StringIO
from pathlib import Path

import grpc
import pytest

from clients import PNG
from cxr.v1 import chest_xray_pb2 as pb
from cxr_client.testing import FakeServer, default_answer, failure
from cxr_client.testing.answers import NOTICE
from cxr_command import Run


def long_numbers(request: pb.PredictRequest) -> pb.PredictResponse:
    """An answer whose numbers need all the digits of a float32."""
    answer: pb.PredictResponse = default_answer(request)
    answer.findings[0].score = 0.1
    answer.findings[0].probability = 0.9999999403953552
    return answer


def as_float32(number: float) -> float:
    """Return the number that the contract can carry."""
    return struct.unpack("f", struct.pack("f", number))[0]


def test_one_image_gets_a_table_with_marks_warnings_and_the_notice(cxr: Run, folder: Path) -> None:
    status, out, err = cxr("predict", folder / "a.JPG")
    assert (status, err) == (0, "")
    lines = out.splitlines()
    assert lines[0] == f"{folder}/a.JPG  (640 x 480 px, PNG, fake 1)"
    assert lines[1].split() == ["finding", "score", "probability", "threshold"]
    assert lines[2].split() == ["*", "Effusion", "0.750", "0.625", "0.250"]
    assert lines[3] == "  ! CROPPED"
    assert lines[1].index("score") + len("score") == lines[2].index("0.750") + len("0.750")
    assert "* above the model's operating point" in out
    assert lines[-1] == NOTICE


@pytest.mark.parametrize(
    "command", [["predict"], ["explain"], ["explain", "--above-threshold", "--label", "Nodule"]]
)
def test_json_has_the_embedding_where_it_is_asked_for_and_the_typicality(
    cxr: Run, fake: FakeServer, folder: Path, command: list[str]
) -> None:
    fake.answer("Predict", default_answer)
    where = ["--output", folder / "out"] if command[0] == "explain" else []
    for asked, embedding in ((["--include-embedding"], [0.0, 0.5, 1.25, 0.0]), ([], [])):
        status, out, _ = cxr(*command, "--json", *asked, *where, folder / "a.JPG")
        assert status == 0
        assert json.loads(out)["embedding"] == embedding
        assert json.loads(out)["typicality"] == 0.5


def test_the_embedding_needs_json(cxr: Run, fake: FakeServer, folder: Path) -> None:
    for form in ([], ["--csv"], ["-v"]):
        status, out, err = cxr("predict", "--include-embedding", *form, folder)
        assert (status, out) == (2, "")
        assert err.startswith("cxr: --include-embedding: only JSON has room for it; give --json (")
    assert not fake.calls


def test_several_images_get_a_line_each_in_aligned_columns(
    cxr: Run, fake: FakeServer, folder: Path
) -> None:
    fake.answer("Predict", default_answer)
    status, out, _ = cxr("predict", folder)
    assert status == 0
    lines = out.splitlines()[:4]
    assert [line.split()[0] for line in lines] == [
        str(folder / name) for name in ("a.JPG", "z.png", "b/x.png", "b/c/y.jpeg")
    ]
    for found in ("0.750* Effusion", "0.250  Cardiomegaly"):
        assert len({line.index(found) for line in lines}) == 1
    assert out.count(NOTICE) == 1


def test_one_long_name_does_not_widen_the_lines_of_the_others(cxr: Run, folder: Path) -> None:
    (folder / f"{'long' * 50}.png").write_bytes(PNG)
    _, out, _ = cxr("predict", folder / "a.JPG", folder / f"{'long' * 50}.png")
    short, long = out.splitlines()[:2]
    assert len(short) < 200 < len(long)


def test_a_line_names_the_warnings_of_its_image_but_not_those_of_the_model(
    cxr: Run, fake: FakeServer, folder: Path
) -> None:
    def two_warnings(request: pb.PredictRequest) -> pb.PredictResponse:
        answer: pb.PredictResponse = default_answer(request)
        answer.warnings.add(code=pb.WARNING_CODE_PHANTOM_MODEL, message="It is a phantom.")
        answer.warnings.add(code=pb.WARNING_CODE_CROPPED, message="It was cropped.")
        return answer

    fake.answer("Predict", two_warnings)
    _, out, _ = cxr("predict", folder)
    assert [line.endswith("  ! CROPPED") for line in out.splitlines()[:4]] == [True] * 4
    assert out.count("PHANTOM_MODEL: It is a phantom.") == out.count("PHANTOM_MODEL") == 1
    assert out.count("CROPPED: It was cropped.") == 1


def test_verbose_prints_a_table_for_each_of_several_images(cxr: Run, folder: Path) -> None:
    status, out, _ = cxr("predict", "-v", folder)
    assert status == 0
    assert out.count("finding") == 4
    assert out.count("  ! CROPPED\n") == 4
    assert out.count("CROPPED: It was cropped.") == out.count(NOTICE) == 1


def test_answers_keep_the_order_of_the_files(cxr: Run, folder: Path) -> None:
    status, out, _ = cxr("predict", "--json", "--jobs", 3, folder / "z.png", folder)
    assert status == 0
    answers = [json.loads(line) for line in out.splitlines()]
    names = [Path(answer["file"]).relative_to(folder).as_posix() for answer in answers]
    assert names == ["z.png", "a.JPG", "z.png", "b/x.png", "b/c/y.jpeg"]
    assert [answer["findings"][0]["class_index"] for answer in answers] == [4, 2, 4, 1, 3]


def test_no_more_calls_at_a_time_than_jobs(cxr: Run, tmp_path: Path, fake: FakeServer) -> None:
    for number in range(12):
        (tmp_path / f"{number}.png").write_bytes(PNG)
    running, most = set(), []

    def count(context: grpc.ServicerContext) -> None:
        running.add(context)
        most.append(len(running))
        time.sleep(0.1)
        running.discard(context)

    fake.script(*[count] * 12)
    assert cxr("predict", "--jobs", 3, tmp_path)[0] == 0
    assert len(most) == 12
    assert 2 <= max(most) <= 3


def test_json_has_everything_that_the_answer_has(cxr: Run, folder: Path) -> None:
    _, out, _ = cxr("predict", "--json", folder / "z.png")
    answer = json.loads(out)
    assert answer["findings"][0] == {
        "label": "Effusion",
        "class_index": 4,
        "score": 0.75,
        "probability": 0.625,
        "threshold": 0.25,
        "above_threshold": True,
        "calibrated_probability": None,
    }
    assert answer["timing"]["decode_ms"] == 1.5
    assert answer["warnings"] == [{"code": "CROPPED", "message": "It was cropped."}]
    assert answer["notice"] == NOTICE


def test_csv_has_a_row_for_each_finding_and_says_once_what_all_rows_share(
    cxr: Run, folder: Path
) -> None:
    status, out, err = cxr("predict", "--csv", folder)
    rows = list(csv.DictReader(StringIO(out)))
    assert status == 0
    assert [Path(row["file"]).name for row in rows] == ["a.JPG", "z.png", "x.png", "y.jpeg"]
    assert rows[0] == {
        "file": str(folder / "a.JPG"),
        "rank": "1",
        "label": "Effusion",
        "score": "0.75",
        "probability": "0.625",
        "calibrated_probability": "",
        "threshold": "0.25",
        "above_threshold": "true",
        "warnings": "CROPPED",
        "error": "",
    }
    model, notice, summary = err.splitlines()
    assert model == f"model: fake 1, weights of SHA-256 {'00' * 32}"
    assert notice == NOTICE
    assert summary.startswith("4 answered in ")


def test_verbose_csv_has_the_model_and_the_request_in_each_row(cxr: Run, folder: Path) -> None:
    _, out, _ = cxr("predict", "--csv", "-v", folder)
    rows = list(csv.DictReader(StringIO(out)))
    assert len({row["request_id"] for row in rows}) == 4
    assert {row["model"] for row in rows} == {"fake"}
    assert {row["weights_sha256"] for row in rows} == {"00" * 32}


@pytest.mark.parametrize("form", ["--json", "--csv"])
def test_numbers_have_the_digits_of_a_float32_and_no_more(
    cxr: Run, fake: FakeServer, folder: Path, form: str
) -> None:
    fake.answer("Predict", long_numbers)
    _, out, _ = cxr("predict", form, folder / "a.JPG")
    if form == "--json":
        finding = json.loads(out)["findings"][0]
    else:
        finding = next(csv.DictReader(StringIO(out)))
    assert str(finding["score"]) == "0.1"
    assert str(finding["probability"]) == "0.99999994"
    assert as_float32(float(finding["probability"])) == as_float32(0.99999994)


def test_all_findings_are_to_be_had_without_counting_them(
    cxr: Run, fake: FakeServer, folder: Path
) -> None:
    fake.answer("Predict", default_answer)
    status, out, _ = cxr("predict", "--top-k", "all", "--json", folder / "a.JPG")
    assert status == 0
    assert len(json.loads(out)["findings"]) == 3


def test_a_failure_is_an_object_in_json(cxr: Run, fake: FakeServer, folder: Path) -> None:
    bad = failure(grpc.StatusCode.INVALID_ARGUMENT, "IMAGE_UNREADABLE", message="It is broken.")
    fake.script(bad)
    files = [folder / "a.JPG", folder / "none.png", folder / "z.png"]
    _, out, _ = cxr("predict", "--json", "--jobs", 1, *files)
    first, second, third = map(json.loads, out.splitlines())
    assert first["error"]["reason"] == "IMAGE_UNREADABLE"
    assert first["error"]["code"] == "INVALID_ARGUMENT"
    assert second["error"]["reason"] == "FILE_UNREADABLE"
    assert third["findings"]


def test_a_failure_is_a_row_in_csv(cxr: Run, fake: FakeServer, folder: Path) -> None:
    bad = failure(grpc.StatusCode.INVALID_ARGUMENT, "IMAGE_UNREADABLE", message="It is broken.")
    fake.script(bad)
    files = [folder / "a.JPG", folder / "none.png", folder / "z.png"]
    status, out, _ = cxr("predict", "--csv", "--jobs", 1, *files)
    assert status == 1
    first, second, third = csv.DictReader(StringIO(out))
    assert [Path(row["file"]).name for row in (first, second, third)] == [
        "a.JPG",
        "none.png",
        "z.png",
    ]
    assert first["error"] == "IMAGE_UNREADABLE: It is broken."
    assert (first["label"], first["score"]) == ("", "")
    assert second["error"] == "FILE_UNREADABLE: No such file or directory"
    assert (third["label"], third["error"]) == ("Effusion", "")
