"""Which files `cxr` takes from a folder, and what it says of the others."""

import json
import os
import socket
from io import BytesIO, TextIOWrapper
from pathlib import Path
from typing import Any

import pytest

from clients import PNG
from cxr_client.testing import FakeServer
from cxr_command import Run, cxr_process, names_in

JPEG = b"\xff\xd8\xff\xe0"
DICOM = bytes(128) + b"DICM"
REPORT = DICOM + b"\2\0\2\0UI\x1e\0" + b"1.2.840.10008.5.1.4.1.1.88.34\0"


def files_in(out: str, root: Path) -> list[str]:
    """Return the files of JSON answers, relative to a folder."""
    answers = map(json.loads, out.splitlines())
    return [Path(answer["file"]).relative_to(root).as_posix() for answer in answers]


def skipped_in(err: str) -> str:
    """Return the end of the summary."""
    return err.splitlines()[-1].partition("; skipped: ")[2]


@pytest.mark.parametrize("suffix", [".png", ".jpg", ".jpeg", ".jpe", ".jfif", ".PNG"])
def test_a_file_with_the_suffix_of_an_image_is_taken(cxr: Run, tmp_path: Path, suffix: str) -> None:
    (tmp_path / f"film{suffix}").write_bytes(JPEG)
    status, out, _ = cxr("predict", "--json", tmp_path)
    assert status == 0
    assert files_in(out, tmp_path) == [f"film{suffix}"]


def test_a_file_without_suffix_is_taken_if_it_is_an_image(cxr: Run, tmp_path: Path) -> None:
    (tmp_path / "film").write_bytes(PNG)
    (tmp_path / "other").write_bytes(JPEG)
    (tmp_path / "study").write_bytes(DICOM)
    status, out, _ = cxr("predict", "--json", tmp_path)
    assert status == 0
    assert files_in(out, tmp_path) == ["film", "other", "study"]


def test_dicom_is_taken_whatever_its_name_is_but_not_what_is_no_image(
    cxr: Run, tmp_path: Path
) -> None:
    contents = {
        "1.2.840.17": DICOM,
        "4.tif": b"II*\0" + bytes(124) + b"DICM",  # its preamble is the header of a TIFF
        "a.dcm": DICOM,
        "DICOMDIR": DICOM + b"\2\0\2\0UI\x14\0" + b"1.2.840.10008.1.3.10",
        "report.dcm": REPORT,
        "report2": REPORT,
        # Without preamble: the element that gives the length of group 2.
        "bare.dcm": b"\x02\x00\x00\x00UL\x04\x00" + bytes(200),
    }
    for name, content in contents.items():
        (tmp_path / name).write_bytes(content)
    status, out, err = cxr("predict", "--json", tmp_path)
    assert status == 0
    assert files_in(out, tmp_path) == ["1.2.840.17", "4.tif", "a.dcm"]
    assert skipped_in(err) == "1 DICOM directory, 2 DICOM reports, 1 DICOM without preamble"


def test_what_is_skipped_is_counted_by_kind(cxr: Run, tmp_path: Path) -> None:
    contents = {
        "a.png": PNG,
        "1.dcm": REPORT,
        "2.dcm": REPORT,
        "a.bmp": b"BM" + bytes(60),
        "a.tiff": b"MM\0*" + bytes(60),
        "a.webp": b"RIFF\0\0\0\0WEBP",
        "a.gif": b"GIF89a",
        "notes.txt": b"text",
        "old.bak": PNG,
        ".hidden.png": PNG,
        "._a.png": b"\0\x05\x16\x07",
        ".git/a.png": PNG,
        "deep/empty": b"",
    }
    for name, content in contents.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(content)
    status, out, err = cxr("predict", "--json", tmp_path)
    assert status == 0
    assert files_in(out, tmp_path) == ["a.png"]
    assert skipped_in(err) == (
        "1 BMP, 2 DICOM reports, 1 GIF, 1 PNG named .bak, 1 TIFF, 1 WebP, 3 hidden, 2 other files"
    )


def test_a_heatmap_that_another_program_has_saved_again_is_skipped_and_is_no_failure(
    cxr: Run, tmp_path: Path
) -> None:
    def chunk(kind: bytes, data: bytes) -> bytes:
        return len(data).to_bytes(4) + kind + data + bytes(4)

    header, mark = chunk(b"IHDR", bytes(13)), chunk(b"tEXt", b"cxr-serve\0{}")
    profile, pixels = chunk(b"iCCP", bytes(9000)), chunk(b"IDAT", bytes(9000))
    comment = b"\xff\xfe\0\x0ecxr-serve {}"
    (tmp_path / "a.png").write_bytes(PNG + header + profile + pixels)
    (tmp_path / "b.png").write_bytes(PNG + header + profile + mark + pixels)
    (tmp_path / "c.png").write_bytes(PNG + header + pixels + mark)
    (tmp_path / "d.jpg").write_bytes(JPEG + b"\x27\x10" + bytes(9998) + comment)
    status, out, err = cxr("predict", "--json", tmp_path)
    assert status == 0
    assert files_in(out, tmp_path) == ["a.png"]
    assert skipped_in(err) == "3 heatmaps"


def test_what_is_no_regular_file_is_passed_over(cxr: Run, tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(PNG)
    os.mkfifo(tmp_path / "fifo.png")
    (tmp_path / "device.png").symlink_to("/dev/zero")
    (tmp_path / "dangling.png").symlink_to(tmp_path / "nowhere")
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(tmp_path / "s.png"))
        status, out, err = cxr("predict", "--json", tmp_path)
    assert status == 0
    assert files_in(out, tmp_path) == ["a.png"]
    assert skipped_in(err) == "1 broken link, 3 special files"


def test_a_pipe_that_is_named_is_read_but_not_waited_for_without_a_writer(
    cxr: Run, fake: FakeServer, tmp_path: Path
) -> None:
    # As the shell's `cxr predict <(command)` does it.
    reader, writer = os.pipe()
    os.write(writer, b"film")
    os.close(writer)
    assert cxr("predict", f"/dev/fd/{reader}")[0] == 0
    os.close(reader)
    assert fake.calls[-1].request.image == b"film"
    os.mkfifo(tmp_path / "fifo")
    assert cxr("predict", tmp_path / "fifo")[0] == 0
    assert fake.calls[-1].request.image == b""  # Which a real server refuses.


def test_linked_folders_are_followed_on_request_and_never_in_circles(
    cxr: Run, tmp_path: Path
) -> None:
    (tmp_path / "here").mkdir()
    (tmp_path / "there").mkdir()
    (tmp_path / "here" / "a.png").write_bytes(PNG)
    (tmp_path / "there" / "b.png").write_bytes(PNG)
    (tmp_path / "here" / "link").symlink_to(tmp_path / "there")
    (tmp_path / "there" / "back").symlink_to(tmp_path / "here")
    status, out, err = cxr("predict", "--json", tmp_path / "here")
    assert status == 0
    assert files_in(out, tmp_path / "here") == ["a.png"]
    assert skipped_in(err) == "1 linked folder"
    status, out, _ = cxr("predict", "--json", "--follow", tmp_path / "here")
    assert status == 0
    assert files_in(out, tmp_path / "here") == ["a.png", "link/b.png"]


def test_a_linked_folder_that_is_named_is_searched(cxr: Run, tmp_path: Path, folder: Path) -> None:
    (tmp_path / "link").symlink_to(folder)
    status, out, _ = cxr("predict", "--json", tmp_path / "link")
    assert status == 0
    assert len(out.splitlines()) == 4


def test_a_folder_without_images_is_a_usage_error_that_says_what_is_there(
    cxr: Run, tmp_path: Path
) -> None:
    status, _, err = cxr("predict", tmp_path)
    assert status == 2
    assert err == f"cxr: no DICOM, PNG or JPEG files in {tmp_path} (see cxr predict --help)\n"
    (tmp_path / "a.dcm").write_bytes(REPORT)
    status, _, err = cxr("predict", tmp_path)
    assert status == 2
    assert "; skipped: 1 DICOM report (see" in err


def test_a_folder_that_cannot_be_read_costs_one_line_and_not_the_others(
    cxr: Run, folder: Path
) -> None:
    # Even root cannot list a folder whose path is longer than the system's limit.
    parent = os.open(folder, os.O_RDONLY)
    for _ in range(20):
        os.mkdir("d" * 250, dir_fd=parent)
        child = os.open("d" * 250, os.O_RDONLY, dir_fd=parent)
        os.close(parent)
        parent = child
    os.close(parent)
    status, out, err = cxr("predict", "--json", folder)
    assert status == 1
    answers = [json.loads(line) for line in out.splitlines()]
    assert answers[0]["error"]["message"] == "File name too long"
    assert all("findings" in answer for answer in answers[1:])
    assert "4 answered, 1 failed" in err


def test_a_path_that_cannot_be_examined_fails_alone(cxr: Run, folder: Path, tmp_path: Path) -> None:
    images, too_long = [folder / "a.JPG", folder / "z.png"], tmp_path / ("x" * 300)
    status, out, err = cxr("predict", "--json", images[0], too_long, images[1])
    assert status == 1
    assert files_in(out, tmp_path)[1] == too_long.name
    assert f"{too_long}: File name too long" in err
    assert "2 answered, 1 failed" in err
    output = tmp_path / "run.jsonl"
    status, _, err = cxr("predict", images[0], too_long, images[1], "--output", output)
    assert status == 1
    assert "2 answered, 1 failed" in err


@pytest.mark.parametrize("options", [["--json"], ["--csv"], ["--json", "--by-study"], []])
def test_a_folder_that_cannot_be_read_is_told_in_every_form_of_output(
    cxr: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, options: list[str]
) -> None:
    def walk(root: Path, onerror: Any, **_: object) -> Any:
        onerror(PermissionError(13, "Permission denied", str(root)))
        return iter(())

    monkeypatch.setattr("cxr_client.cli.files.os.walk", walk)
    status, _, err = cxr("predict", *options, tmp_path)
    assert status == 1
    assert f"{tmp_path}: Permission denied" in err


@pytest.mark.parametrize("follow", [[], ["--follow"]])
def test_what_a_pattern_matches_several_times_is_sent_once(
    cxr: Run, tmp_path: Path, follow: list[str]
) -> None:
    for name in ("0.png", "a/n.png", "a/b/m.png"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(PNG)
    status, out, _ = cxr("predict", "--json", *follow, f"{tmp_path}/**")
    assert status == 0
    assert sorted(files_in(out, tmp_path)) == ["0.png", "a/b/m.png", "a/n.png"]


def test_two_stars_beside_other_characters_are_one(cxr: Run, folder: Path) -> None:
    status, out, _ = cxr("predict", "--json", f"{folder}/**.png")
    assert status == 0
    assert files_in(out, folder) == ["z.png"]


def test_files_that_are_called_by_their_uids_have_pictures_of_their_own(
    cxr: Run, tmp_path: Path
) -> None:
    for last in (10, 11):
        (tmp_path / f"1.2.840.99.{last}").write_bytes(DICOM)
        options = ["--label", "effusion", "--output", tmp_path / "maps"]
        assert cxr("explain", tmp_path / f"1.2.840.99.{last}", *options)[0] == 0
    assert names_in(tmp_path / "maps") == [
        "1.2.840.99.10-Effusion.png",
        "1.2.840.99.11-Effusion.png",
    ]


def test_pictures_of_files_of_the_same_name_are_numbered(cxr: Run, tmp_path: Path) -> None:
    for folder in "abc":
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "1.png").write_bytes(PNG)
    options = ["--label", "effusion", "--output", tmp_path / "maps"]
    assert cxr("explain", f"{tmp_path}/?/*.png", *options)[0] == 0
    assert names_in(tmp_path / "maps") == [
        "1-2-Effusion.png",
        "1-3-Effusion.png",
        "1-Effusion.png",
    ]


def test_a_name_that_the_encoding_of_the_output_lacks_is_escaped(
    fake: FakeServer, tmp_path: Path
) -> None:
    names = ["aufnahme-Übersicht.png", "胸部.png", "z.png"]
    for name in names:
        (tmp_path / name).write_bytes(PNG)
    for encoding, form in [("ascii", "--csv"), ("cp1252", "-v"), ("ascii", "-q")]:
        env = {**os.environ, "PYTHONIOENCODING": encoding}
        done = cxr_process("predict", form, "--server", fake.address, tmp_path, env=env)
        assert done.returncode == 0, done.stderr
        assert rb"\u80f8\u90e8.png" in done.stdout
        assert b"z.png" in done.stdout


def test_a_failure_with_such_a_name_ends_that_file_alone(fake: FakeServer, tmp_path: Path) -> None:
    env = {**os.environ, "PYTHONIOENCODING": "ascii"}
    (tmp_path / "z.png").write_bytes(PNG)
    files = [tmp_path / "胸部.png", tmp_path / "z.png"]
    done = cxr_process("predict", "--json", "--server", fake.address, *files, env=env)
    assert done.returncode == 1
    assert b"\\u80f8\\u90e8.png: No such file or directory" in done.stderr
    assert len(done.stdout.splitlines()) == 2


def test_standard_input_is_an_image_too(
    cxr: Run, fake: FakeServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.stdin", TextIOWrapper(BytesIO(b"\x89film")))
    status, out, _ = cxr("predict", "-")
    assert status == 0
    assert out.startswith("-  (")
    assert fake.calls[0].request.image == b"\x89film"
