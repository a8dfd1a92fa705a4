"""The cxr command, run in this process and as a command of its own, on a fake server."""

import csv
import json
import os
import pty
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from io import BytesIO, StringIO, TextIOWrapper
from pathlib import Path

import grpc
import pytest

from clients import PNG, overload
from cxr.v1 import chest_xray_pb2 as pb
from cxr_client import enums
from cxr_client.cli import main
from cxr_client.cli.output import aligned
from cxr_client.cli.text import printable
from cxr_client.testing import FakeServer, Hold, failure
from cxr_client.testing.answers import NOTICE

Run = Callable[..., tuple[int, str, str]]
CXR = [sys.executable, "-c", "import sys; from cxr_client.cli import main; sys.exit(main())"]


@pytest.fixture
def cxr(
    fake: FakeServer, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> Run:
    """Runs the command on the fake server; returns status, output and errors."""
    monkeypatch.setenv("CXR_SERVER", fake.address)
    monkeypatch.delenv("CXR_TOKEN", raising=False)

    def run(*argv: object) -> tuple[int, str, str]:
        try:
            status = main([str(each) for each in argv])
        except SystemExit as end:
            status = int(end.code or 0)
        captured = capsys.readouterr()
        return status, captured.out, captured.err

    return run


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with images (each of another length), in folders, beside other files."""
    root = tmp_path / "films"
    for number, name in enumerate(["b/x.png", "a.JPG", "b/c/y.jpeg", "z.png"], start=1):
        file = root / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(bytes(number))
    (root / "notes.txt").write_text("no image")
    (root / "b" / "scan.dcm").write_bytes(b"no image either")
    return root


def test_predict_prints_a_table_with_marks_warnings_and_the_notice_once(
    cxr: Run, folder: Path
) -> None:
    status, out, err = cxr("predict", folder / "a.JPG", folder / "z.png")
    assert (status, err) == (0, "")
    lines = out.splitlines()
    assert lines[0] == f"{folder}/a.JPG  (640 x 480 px, PNG, fake 1)"
    assert lines[1].split() == ["finding", "score", "probability", "threshold"]
    assert lines[2].split() == ["*", "Effusion", "0.750", "0.625", "0.250"]
    assert lines[3] == "  ! CROPPED"
    assert lines[1].index("score") + len("score") == lines[2].index("0.750") + len("0.750")
    assert out.count("CROPPED: It was cropped.") == out.count(NOTICE) == 1
    assert "* above the model's operating point" in out


def test_folders_are_searched_and_answers_keep_the_order_of_the_files(
    cxr: Run, folder: Path
) -> None:
    status, out, _ = cxr("predict", "--json", "--jobs", 3, folder / "z.png", folder)
    assert status == 0
    answers = [json.loads(line) for line in out.splitlines()]
    names = [Path(answer["file"]).relative_to(folder).as_posix() for answer in answers]
    assert names == ["z.png", "a.JPG", "z.png", "b/x.png", "b/c/y.jpeg"]
    assert [answer["findings"][0]["class_index"] for answer in answers] == [4, 2, 4, 1, 3]


def test_no_more_calls_at_a_time_than_jobs(cxr: Run, tmp_path: Path, fake: FakeServer):
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


def test_json_has_everything_but_pictures(cxr: Run, folder: Path, tmp_path: Path) -> None:
    _, out, _ = cxr("predict", "--json", folder / "z.png")
    answer = json.loads(out)
    assert answer["findings"][0] == {
        "label": "Effusion",
        "class_index": 4,
        "score": 0.75,
        "probability": 0.625,
        "threshold": 0.25,
        "above_threshold": True,
    }
    assert answer["timing"]["decode_ms"] == 1.5
    assert answer["warnings"] == [{"code": "CROPPED", "message": "It was cropped."}]
    assert answer["notice"] == NOTICE
    _, out, _ = cxr("explain", "--json", "--output", tmp_path / "out", folder / "z.png")
    answer = json.loads(out)
    assert [each["label"] for each in answer["findings"]] == ["Effusion", "Cardiomegaly", "Nodule"]
    (explanation,) = answer["explanations"]
    assert "heatmap" not in explanation
    assert explanation["method"] == "GRAD_CAM"
    assert explanation["evidence"]["rows"] == explanation["evidence"]["columns"] == 7
    assert len(explanation["evidence"]["values"]) == 49
    assert explanation["picture"] == str(tmp_path / "out" / "z-Effusion.png")


def test_csv_has_a_row_for_each_finding(cxr: Run, folder: Path) -> None:
    status, out, err = cxr("predict", "--csv", folder)
    rows = list(csv.DictReader(StringIO(out)))
    assert status == 0
    assert [Path(row["file"]).name for row in rows] == ["a.JPG", "z.png", "x.png", "y.jpeg"]
    assert {key: rows[0][key] for key in ("rank", "label", "score", "above_threshold")} == {
        "rank": "1",
        "label": "Effusion",
        "score": "0.75",
        "above_threshold": "true",
    }
    assert rows[0]["warnings"] == "CROPPED"
    assert err == f"{NOTICE}\n"


def test_explain_writes_a_picture_for_each_label_without_overwriting(
    cxr: Run, folder: Path, tmp_path: Path
) -> None:
    (folder / "z.jpg").write_bytes(b"another film of the same name")
    output = folder / "heatmaps"
    arguments = ["explain", "--label", "Mass", "--label", "Lung Opacity", "--output", output]
    status, out, err = cxr(*arguments, folder)
    assert (status, err) == (0, "")
    written = sorted(file.relative_to(output).as_posix() for file in output.rglob("*.png"))
    stems = ["a", "b/c/y", "b/x", "z", "z-2"]
    expected = [f"{stem}-{label}.png" for stem in stems for label in ("Lung_Opacity", "Mass")]
    assert written == sorted(expected)
    assert (output / "a-Mass.png").read_bytes().startswith(PNG)
    assert str(output / "b" / "c" / "y-Lung_Opacity.png") in out
    # What was written is not taken for input the next time.
    assert cxr(*arguments, folder)[0] == 0
    assert sorted(file.relative_to(output).as_posix() for file in output.rglob("*.png")) == written


def test_a_label_cannot_lead_out_of_the_output_folder(cxr: Run, folder: Path, tmp_path: Path):
    output = tmp_path / "out"
    assert cxr("explain", "--label", "../../evil", "--output", output, folder / "a.JPG")[0] == 0
    assert [file.name for file in output.iterdir()] == ["a-______evil.png"]


def test_explain_passes_every_option_on(cxr: Run, fake: FakeServer, folder: Path) -> None:
    options = "--frame original --color-map viridis --legend --kind none --opacity 0.25 "
    options += "--max-side 64 --scale fixed --method layer-cam --format jpeg --strict "
    options += "--label Mass --label Nodule --heatmap-label Nodule"
    status, out, _ = cxr("explain", *options.split(), "--output", folder / "out", folder / "a.JPG")
    assert status == 0
    request = fake.calls[0].request
    assert request.render == pb.RenderOptions(
        kind=pb.RENDER_KIND_NONE,
        frame=pb.RENDER_FRAME_ORIGINAL,
        color_map=pb.COLOR_MAP_VIRIDIS,
        opacity=0.25,
        legend=True,
        max_side_px=64,
        scale=pb.HEAT_SCALE_FIXED,
        format=pb.RENDER_FORMAT_JPEG,
    )
    assert (request.labels, request.heatmap_labels) == (["Mass", "Nodule"], ["Nodule"])
    assert request.method == pb.EXPLANATION_METHOD_LAYER_CAM
    assert request.strict_input
    assert not (folder / "out").exists()
    assert "Nodule" in out


def test_predict_passes_every_option_on(cxr: Run, fake: FakeServer, folder: Path) -> None:
    token = folder / "token"
    token.write_text("s3cret\n")
    arguments = ["--top-k", 3, "--strict", "--timeout", 7, "--token-file", token]
    assert cxr("predict", *arguments, folder / "a.JPG")[0] == 0
    (call,) = fake.calls
    assert call.request == pb.PredictRequest(image=bytes(2), top_k=3, strict_input=True)
    assert call.metadata["authorization"] == "Bearer s3cret"
    assert 0 < call.time_remaining_s <= 7.7  # Rounded up on the wire.


def test_the_token_comes_from_the_environment_too(
    cxr: Run, fake: FakeServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CXR_TOKEN", "from-env")
    assert cxr("health")[0] == 0
    assert fake.calls[0].metadata["authorization"] == "Bearer from-env"


def test_one_bad_file_costs_one_line_and_not_the_others(
    cxr: Run, fake: FakeServer, folder: Path
) -> None:
    bad = failure(grpc.StatusCode.INVALID_ARGUMENT, "IMAGE_UNREADABLE", message="It is broken.")
    fake.script(bad)
    files = [folder / "a.JPG", folder / "none.png", folder / "z.png"]
    status, out, err = cxr("predict", "--json", "--jobs", 1, *files)
    assert status == 1
    first, second, third = map(json.loads, out.splitlines())
    assert first["error"]["reason"] == "IMAGE_UNREADABLE"
    assert first["error"]["code"] == "INVALID_ARGUMENT"
    assert second["error"]["reason"] == "FILE"
    assert third["findings"]
    lines = err.splitlines()
    assert len(lines) == 2
    assert lines[0].startswith(f"cxr: {files[0]}: It is broken. [IMAGE_UNREADABLE, request ")
    assert lines[1] == f"cxr: {files[1]}: No such file or directory"


@pytest.mark.parametrize("form", [[], ["--csv"]])
def test_a_failure_does_not_break_tables_and_csv(
    cxr: Run, fake: FakeServer, folder: Path, form: list[str]
) -> None:
    fake.script(failure(grpc.StatusCode.INTERNAL))
    status, out, err = cxr("predict", *form, "--jobs", 1, folder / "a.JPG", folder / "z.png")
    assert status == 1
    assert out.count("Effusion") == 1
    assert "fake INTERNAL" in err


def test_a_refusal_for_load_is_waited_for(cxr: Run, fake: FakeServer, folder: Path) -> None:
    fake.script(*[overload(0.05)] * 3)
    assert cxr("predict", folder)[0] == 0


def test_a_server_out_of_reach_ends_the_run_at_once(cxr: Run, folder: Path) -> None:
    status, out, err = cxr("predict", "--server", "127.0.0.1:1", "--max-attempts", 1, folder)
    assert (status, out) == (3, "")
    assert len(err.splitlines()) == 2
    assert err.endswith("cxr: 3 images not answered\n")


def test_a_refused_token_ends_the_run_at_once(cxr: Run, fake: FakeServer, folder: Path) -> None:
    fake.script(*[failure(grpc.StatusCode.UNAUTHENTICATED)] * 4)
    status, _, err = cxr("predict", folder)
    assert status == 3
    assert "fake UNAUTHENTICATED" in err


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        ([], "required: COMMAND"),
        (["predict"], "required: FILE"),
        (["predict", "x.png", "--top-k", "0"], "0 is below 1"),
        (["predict", "x.png", "--json", "--csv"], "not allowed with"),
        (["predict", "x.png", "--timeout", "nan"], "not a positive number"),
        (["explain", "x.png", "--color-map", "hot"], "invalid choice: 'HOT'"),
        (["explain", "x.png", "--token", "s3cret"], "unrecognized arguments"),
        (["predict", "x.png", "--server", "10.1.2.3:1"], "insecure"),
        (["predict", "x.png", "--cert-file", "a.pem"], "go together"),
        (["health", "--token-file", "no-such-file"], "No such file"),
    ],
)
def test_wrong_usage_ends_with_status_2_and_a_sentence(
    cxr: Run, fake: FakeServer, argv: list[str], message: str
) -> None:
    status, out, err = cxr(*argv)
    assert (status, out) == (2, "")
    assert message in err
    assert "Traceback" not in err
    assert not fake.calls


def test_an_error_inside_the_command_is_not_shown_as_wrong_usage(
    cxr: Run, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object) -> None:
        raise ValueError("a bug")

    monkeypatch.setattr("cxr_client.cli.output.aligned", broken)
    with pytest.raises(ValueError, match="a bug"):
        cxr("predict", folder)


def test_a_folder_without_images_is_a_usage_error(cxr: Run, tmp_path: Path) -> None:
    status, _, err = cxr("predict", tmp_path)
    assert status == 2
    assert err == f"cxr: there are no PNG or JPEG files in {tmp_path}\n"


def test_standard_input_is_an_image_too(
    cxr: Run, fake: FakeServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.stdin", TextIOWrapper(BytesIO(b"\x89film")))
    status, out, _ = cxr("predict", "-")
    assert status == 0
    assert out.startswith("-  (")
    assert fake.calls[0].request.image == b"\x89film"


def test_pictures_get_the_suffix_of_their_format_and_only_where_they_are_drawn(
    cxr: Run, folder: Path, tmp_path: Path
) -> None:
    options = ["--format", "JPEG", "--label", "Mass", "--label", "Nodule", "--json"]
    options += ["--heatmap-label", "Nodule", "--output", tmp_path / "out"]
    status, out, _ = cxr("explain", *options, folder / "a.JPG")
    assert status == 0
    (picture,) = (tmp_path / "out").iterdir()
    assert picture.name == "a-Nodule.jpg"
    assert picture.read_bytes().startswith(b"\xff\xd8\xff")
    pictures = [each["picture"] for each in json.loads(out)["explanations"]]
    assert pictures == [None, str(picture)]


@pytest.mark.parametrize(
    ("option", "enum"),
    [
        ("--method", enums.ExplanationMethod),
        ("--kind", enums.RenderKind),
        ("--frame", enums.RenderFrame),
        ("--color-map", enums.ColorMap),
        ("--scale", enums.HeatScale),
        ("--format", enums.RenderFormat),
    ],
)
def test_options_take_the_contract_s_names_in_any_case_and_the_help_lists_them(
    cxr: Run, fake: FakeServer, folder: Path, option: str, enum: type[enums.ContractEnum]
) -> None:
    _, out, _ = cxr("explain", "--help")
    assert f"{option} {{{','.join(enum.choices())}}}" in out
    assert "spelled as in the contract" in out
    for name in enum.choices():
        for spelling in (name, name.lower(), name.lower().replace("_", "-")):
            file = folder / "a.JPG"
            assert cxr("explain", option, spelling, "--output", folder / "out", file)[0] == 0
            request = fake.calls[-1].request
            field = option.removeprefix("--").replace("-", "_")
            holder = request if field == "method" else request.render
            assert getattr(holder, field) == enum[name].number
    assert cxr("explain", option, "unspecified", folder)[0] == 2


def test_the_exit_status_of_health_reflects_the_state_of_the_server(
    cxr: Run, fake: FakeServer
) -> None:
    status, out, _ = cxr("health")
    assert status == 0
    assert out.startswith("SERVING: fake 1 on fake (CPU)")
    fake.answer("Health", pb.HealthResponse(status=pb.SERVING_STATUS_DRAINING))
    status, out, _ = cxr("health", "--json")
    assert status == 1
    assert json.loads(out)["status"] == "DRAINING"
    status, out, err = cxr("health", "--wait", "2")
    assert (status, out) == (1, "")
    assert "not ready within 2 s: its status was DRAINING" in err
    assert cxr("health", "--server", "127.0.0.1:1", "--max-attempts", "1")[0] == 3


def test_model_describes_findings_and_limits(cxr: Run) -> None:
    status, out, _ = cxr("model")
    assert status == 0
    assert out.splitlines()[0].split() == ["model", "fake", "1"]
    assert "Effusion" in out
    assert NOTICE in out
    _, out, _ = cxr("model", "--json")
    assert json.loads(out)["findings"][0]["threshold"] == 0.25


def test_the_version_is_the_package_s(cxr: Run) -> None:
    from importlib.metadata import version

    assert cxr("--version") == (0, f"cxr {version('cxr-client')}\n", "")


def test_untrusted_text_cannot_control_the_terminal() -> None:
    assert printable("a\x1b[2Jb\r\nc\u202ed") == "a [2Jb  c d"
    assert printable(os.fsdecode(b"\xff.png")) == "\\udcff.png"
    assert aligned([["x", "n"], ["\x1b[31mred", "1"]]) == ["x         n", " [31mred  1"]


def test_progress_is_shown_on_a_terminal_alone(fake: FakeServer, folder: Path) -> None:
    for number in range(30):
        (folder / f"more-{number}.png").write_bytes(PNG)
    command = [*CXR, "predict", "--json", "--server", fake.address, str(folder)]
    slow = [lambda _: time.sleep(0.05)] * 34
    fake.script(*slow)
    quiet = subprocess.run(command, capture_output=True, timeout=100, check=True)
    assert quiet.stderr == b""
    fake.script(*slow)
    ours, theirs = pty.openpty()
    shown = subprocess.run(command, stdout=subprocess.PIPE, stderr=theirs, timeout=100, check=True)
    os.close(theirs)
    drawn = os.read(ours, 65536).decode()
    os.close(ours)
    assert "/34 images, " in drawn
    assert drawn.endswith("\r\x1b[K")
    assert len(shown.stdout.splitlines()) == 34


def test_an_interrupt_ends_the_command_without_a_traceback(fake: FakeServer, folder: Path) -> None:
    hold = Hold()
    fake.script(*[hold] * 4)
    # A background job inherits SIGINT as ignored; a command in the foreground does not.
    interruptible = "import signal; signal.signal(signal.SIGINT, signal.default_int_handler); "
    command = [sys.executable, "-c", interruptible + CXR[2]]
    command += ["predict", "--server", fake.address, str(folder)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    assert hold.wait_entered()
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=100)
    hold.release()
    assert process.returncode == 130
    assert (out, err) == (b"", b"")


def test_a_reader_that_goes_away_ends_the_command_quietly(fake: FakeServer, folder: Path) -> None:
    command = [*CXR, "predict", "--json", "--server", fake.address, *[str(folder)] * 50]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    assert process.stdout
    assert process.stderr
    assert process.stdout.readline().startswith(b'{"file"')
    process.stdout.close()
    err = process.stderr.read()
    process.stderr.close()
    assert process.wait(100) == 141
    assert err == b""
