"""How `cxr` goes on, or ends, when something fails."""

import signal
import subprocess
import time
from pathlib import Path

import grpc
import pytest

from clients import overload
from cxr_client.testing import FakeServer, Hold, failure
from cxr_command import CXR, Run


def test_one_bad_file_costs_one_line_and_not_the_others(
    cxr: Run, fake: FakeServer, folder: Path
) -> None:
    bad = failure(grpc.StatusCode.INVALID_ARGUMENT, "IMAGE_UNREADABLE", message="It is broken.")
    fake.script(bad)
    files = [folder / "a.JPG", folder / "none.png", folder / "z.png"]
    status, out, err = cxr("predict", "--jobs", 1, *files)
    assert status == 1
    assert out.startswith(str(files[2]))
    first, second, summary = err.splitlines()
    assert first.startswith(f"cxr: {files[0]}: It is broken. [IMAGE_UNREADABLE, request ")
    assert second == f"cxr: {files[1]}: No such file or directory"
    assert summary.startswith("1 answered, 2 failed in ")


def test_an_option_that_the_server_refuses_ends_the_run_with_one_line_in_its_name(
    cxr: Run, fake: FakeServer, folder: Path
) -> None:
    refusal = failure(
        grpc.StatusCode.INVALID_ARGUMENT,
        "INVALID_FIELD",
        message="max_side_px must be from 32 to 4096",
        violations={"render.max_side_px": "max_side_px must be from 32 to 4096"},
    )
    fake.script(*[refusal] * 4)
    arguments = ["--jobs", 1, "--max-side", 5, "--output", folder / "out"]
    status, out, err = cxr("explain", *arguments, folder)
    assert (status, out) == (2, "")
    assert err == "cxr: --max-side 5: must be from 32 to 4096 (see cxr explain --help)\n"


@pytest.mark.parametrize(
    ("field", "message", "line"),
    [
        (
            "render.fixed_scale_logits",
            "fixed_scale_logits needs scale FIXED",
            "--fixed-scale 40.0: needs --scale FIXED",
        ),
        (
            "render.color_map",
            "color_map must be in colour for kind OVERLAY: grey heat looks like anatomy",
            "--color-map GRAY: must be in colour for --kind OVERLAY: grey heat looks like anatomy",
        ),
        (
            "render.scale",
            "LAYER_CAM makes relative maps, without a unit: scale FIXED is for method GRAD_CAM",
            "--scale FIXED: LAYER_CAM makes relative maps, without a unit: --scale FIXED is for "
            "--method GRAD_CAM",
        ),
        (
            "dicom.presentation",
            "presentation is not a known value",
            "--presentation STORED: is not a known value",
        ),
    ],
)
def test_a_refusal_names_other_options_as_they_are_typed(
    cxr: Run, fake: FakeServer, folder: Path, field: str, message: str, line: str
) -> None:
    fake.script(failure("INVALID_ARGUMENT", "INVALID_FIELD", message, violations={field: message}))
    options = [
        "--fixed-scale",
        "40",
        "--color-map",
        "gray",
        "--scale",
        "fixed",
        "--presentation",
        "stored",
    ]
    status, _, err = cxr("explain", *options, "--output", folder / "out", folder / "a.JPG")
    assert status == 2
    assert err == f"cxr: {line} (see cxr explain --help)\n"


def test_a_failure_of_one_image_names_options_instead_of_fields(
    cxr: Run, fake: FakeServer, folder: Path
) -> None:
    message = "Too large: name fewer labels or heatmap_labels, or a smaller render.max_side_px"
    fake.script(failure("INVALID_ARGUMENT", "EXPLANATION_TOO_LARGE", message=message))
    status, _, err = cxr("explain", "--output", folder / "out", folder / "a.JPG")
    assert status == 1
    assert "name fewer labels or --heatmap-label, or a smaller --max-side [EXPLANATION" in err


def test_a_refusal_for_load_is_waited_for(cxr: Run, fake: FakeServer, folder: Path) -> None:
    fake.script(*[overload(0.05)] * 3)
    assert cxr("predict", folder)[0] == 0


def test_a_server_out_of_reach_ends_the_run_at_once(cxr: Run, folder: Path) -> None:
    status, out, err = cxr("predict", "--server", "127.0.0.1:1", "--max-attempts", 1, folder)
    assert (status, out) == (3, "")
    assert err.splitlines()[-1].startswith("0 answered, 1 failed, 3 not answered in ")


def test_a_refused_token_ends_the_run_at_once(cxr: Run, fake: FakeServer, folder: Path) -> None:
    fake.script(*[failure(grpc.StatusCode.UNAUTHENTICATED)] * 4)
    status, _, err = cxr("predict", folder)
    assert status == 3
    assert "fake UNAUTHENTICATED" in err


def test_an_error_inside_the_command_is_not_shown_as_wrong_usage(
    cxr: Run, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object) -> None:
        raise ValueError("a bug")

    monkeypatch.setattr("cxr_client.cli.table.aligned", broken)
    with pytest.raises(ValueError, match="a bug"):
        cxr("predict", folder / "a.JPG")


@pytest.mark.usefixtures("interruptible")
def test_an_interrupt_ends_the_command_with_a_summary(fake: FakeServer, folder: Path) -> None:
    hold = Hold()
    fake.script(*[hold] * 4)
    command = [*CXR, "predict", "--server", fake.address, str(folder)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    assert hold.wait_entered()
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=100)
    hold.release()
    assert process.returncode == 130
    assert out == b""
    (summary,) = err.splitlines()
    assert summary.startswith(b"0 answered, 4 not answered in ")


@pytest.mark.usefixtures("interruptible")
def test_one_interrupt_ends_a_command_that_waits_for_standard_input(fake: FakeServer) -> None:
    command = [*CXR, "predict", "--server", fake.address, "-"]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    with subprocess.Popen(command, **pipes) as process:
        stdin = process.stdin
        assert stdin
        stdin.write(bytes(2**20))  # taken as a whole only by a program that is reading
        stdin.flush()
        stat = Path(f"/proc/{process.pid}/stat")
        give_up = time.monotonic() + 60
        while stat.read_text().rpartition(")")[2].split()[0] != "S":  # not waiting for more yet
            assert time.monotonic() < give_up
            time.sleep(0.01)
        process.send_signal(signal.SIGINT)
        assert process.wait(timeout=60) == 130


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


@pytest.mark.parametrize("form", ["--json", "--csv"])
def test_output_that_cannot_be_written_is_blamed_and_is_no_usage_error(
    fake: FakeServer, folder: Path, form: str
) -> None:
    command = [*CXR, "predict", form, "--server", fake.address, *[str(folder)] * 50]
    with Path("/dev/full").open("wb") as full:
        done = subprocess.run(command, stdout=full, stderr=subprocess.PIPE, timeout=100)
    assert done.returncode == 1
    assert done.stderr == b"cxr: standard output: No space left on device\n"
