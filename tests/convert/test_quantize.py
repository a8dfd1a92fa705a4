"""`cxr-server prepare --precision int8`: a bundle in int8 of its own, measured and told."""

import asyncio
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import grpc
import msgspec
import numpy as np
import pytest
from structlog.testing import capture_logs

from cxr.v1 import chest_xray_pb2 as pb
from cxr.v1.chest_xray_pb2_grpc import ChestXrayServiceStub
from cxr_client.bulk.rows import header
from cxr_client.cli import main as cxr
from cxr_client.description import ModelDescription
from cxr_phantom.draw import draw_phantom
from cxr_server.__main__ import main
from cxr_server.app import App
from cxr_server.bundles.load import Bundle, load_bundle
from cxr_server.bundles.manifest import BundleError, Manifest
from cxr_server.bundles.quantization import Differences, PlantedFindings, Quantization
from cxr_server.bundles.refit import (
    CalibrationFigures,
    FindingRefit,
    FittedCalibration,
    Isotonic,
    PatientSplit,
    Refit,
)
from cxr_server.convert import films, quantize
from cxr_server.convert.fidelity import auc, differences, points_at, told
from cxr_server.convert.films import Film
from cxr_server.inference.engines import cpu
from cxr_server.inference.engines.registry import ENGINES
from cxr_server.refit.films import Films
from cxr_server.refit.write import refit
from cxr_server.settings import parse
from handmade_checkpoints import state_dict_file
from images import png
from random_weights import LABELS, random_weights
from serving import ServerProcess

FILM_COUNT = 24

MADE = Quantization(
    tool="NNCF 3.4.0",
    parent_name="phantom",
    parent_version="0.1.0",
    parent_sha256="ab" * 32,
    films="phantoms",
    calibration_count=96,
    differences=Differences(
        film_count=192,
        max_probability=0.0662,
        mean_probability=0.0005,
        max_score=0.2,
        mean_score=0.001,
        changed_side_count=3,
        far_changed_side_count=1,
        evidence_correlation=0.999,
        low_evidence_correlation=0.99,
        planted=PlantedFindings(
            count=192, auc_float32=1.0, auc_int8=0.999, pointing_float32=1.0, pointing_int8=0.995
        ),
    ),
    tolerance=0.02,
    probe_tolerance=0.02,
)


@pytest.fixture(scope="module")
def own_films(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of films, one of them twice, and a file that is no image."""
    folder = tmp_path_factory.mktemp("films")
    for seed in range(FILM_COUNT):
        film = draw_phantom(seed, ("Effusion",) if seed % 2 else (), size_px=224)
        (folder / f"{seed}.png").write_bytes(png(film.pixels_hw))
    shutil.copy(folder / "0.png", folder / "copy.png")
    (folder / "notes.txt").write_text("no image")
    return folder


# Ends the process with status 99 at the first look-up of a name or connection. NNCF reports nothing
# beside pytest, in CI or in its developers' environment: this is a process without any of them.
WITHOUT_NETWORK = """
import os, socket, sys

def forbid(event, arguments):
    if event in ("socket.connect", "socket.getaddrinfo", "socket.gethostbyname", "socket.sendto"):
        os._exit(99)

sys.addaudithook(forbid)
from cxr_server.__main__ import main
status = main(sys.argv[1:])
assert "nncf" in sys.modules and "pytest" not in sys.modules
print("done", status, flush=True)
socket.create_connection(("127.0.0.1", 9))
"""


@pytest.fixture(scope="module")
def int8_home(own_films: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of bundles with the phantom in int8, made where a connection ends the process."""
    home = tmp_path_factory.mktemp("int8")
    environment = {
        name: value
        for name, value in os.environ.items()
        if name not in ("CI", "NNCF_CI", "NNCF_DEV") and not name.startswith("PYTEST")
    }
    environment |= {"CXR_BUNDLE_HOME": str(home), "CXR_CACHE_DIR": str(home / ".cache")}
    environment["HOME"] = str(home / ".user")  # holds nobody's refusal of telemetry
    words = ["prepare", "phantom", "--precision", "int8", "--calibrate", str(own_films), "--accept"]
    done = subprocess.run(
        [sys.executable, "-c", WITHOUT_NETWORK, *words],
        env=environment,
        capture_output=True,
        text=True,
        timeout=500,
    )
    assert "done 0\n" in done.stdout, done.stdout + done.stderr
    assert done.returncode == 99  # a connection would have been seen
    (home / "printed.txt").write_text(done.stdout)
    return home


@pytest.mark.slow
def test_the_phantom_in_int8_is_served_with_what_was_measured_and_no_connection_was_tried(
    int8_home: Path, own_films: Path, phantom_bundle: Bundle, capsys: pytest.CaptureFixture[str]
) -> None:
    parent, manifest = phantom_bundle.manifest, load_bundle(int8_home / "phantom-int8").manifest
    made = manifest.quantization
    assert made
    assert (manifest.name, made.parent_name, made.films) == ("phantom-int8", "phantom", "own")
    assert manifest.version.startswith(f"{parent.version}+int8.")
    assert (made.calibration_count, made.differences.film_count) == (12, 12)  # the copy once
    assert manifest.weights_sha256 == parent.weights_sha256
    assert not manifest.reference
    graph = "openvino/model.bin"
    assert manifest.files[graph].bytes < 0.5 * parent.files[graph].bytes
    found = made.differences
    assert 0 < found.mean_probability <= found.max_probability < 0.2
    assert found.evidence_correlation > 0.95
    printed = (int8_home / "printed.txt").read_text()
    assert "calibrating with 12 films (own), measuring on 12 others" in printed
    assert "run fit-reference again" in printed

    film = own_films / "1.png"
    with ServerProcess("--bundle-home", str(int8_home), model="phantom-int8") as server:

        def told(*words: object) -> str:
            assert cxr([*map(str, words), "--server", server.address]) == 0
            return capsys.readouterr().out

        described = json.loads(told("model", "--json"))
        prediction = json.loads(told("predict", film, "--json", "--top-k", 99))
        assert server.stop() == 0
    assert described["precision"] == "int8"
    assert described["quantization"]["max_probability_difference"] == found.max_probability
    scores = {each["label"]: each["probability"] for each in prediction["findings"]}
    assert scores["Effusion"] > 0.5
    assert max(value for label, value in scores.items() if label != "Effusion") < 0.5


@pytest.mark.slow
def test_a_bundle_in_int8_is_not_replaced_or_quantised_again(
    int8_home: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CXR_BUNDLE_HOME", str(int8_home))
    before = (int8_home / "phantom-int8" / "model.json").read_bytes()
    assert main(["prepare", "phantom", "--precision", "int8"]) == 1
    assert "choose another --name" in capsys.readouterr().err
    assert main(["prepare", "phantom-int8", "--precision", "int8"]) == 1
    assert "quantise phantom" in capsys.readouterr().err
    assert main(["prepare", "phantom", "--precision", "int8", "--if-missing"]) == 0
    assert "is prepared already" in capsys.readouterr().out
    assert (int8_home / "phantom-int8" / "model.json").read_bytes() == before


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # NNCF's
def test_differences_above_the_tolerance_are_refused_unless_they_are_accepted(
    own_films: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("CXR_BUNDLE_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("CXR_CACHE_DIR", str(tmp_path / "cache"))
    monkeypatch.setattr(quantize, "TOLERANCE", 1e-9)
    file = tmp_path / "mine.pt"
    file.write_bytes(state_dict_file(random_weights()))
    int8 = ["--precision", "int8", "--calibrate", str(own_films)]
    source = ["--from", str(file), "--labels", ",".join(LABELS)]
    assert main(["prepare", "mine", *source, *int8]) == 1
    assert "nothing was written" in capsys.readouterr().err
    assert [each.name for each in (tmp_path / "home").iterdir()] == ["mine"]
    words = ["prepare", str(tmp_path / "home" / "mine"), "--name", "small", *int8]
    assert main([*words, "--accept"]) == 0
    made = load_bundle(tmp_path / "home" / "small").manifest.quantization
    assert made
    assert not made.within_tolerance
    assert made.differences.planted is None  # no phantom model


def test_what_int8_needs_is_said_before_anything_is_made(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("CXR_BUNDLE_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("CXR_CACHE_DIR", str(tmp_path / "cache"))
    assert main(["prepare", "phantom", "--accept"]) == 2
    assert "need --precision int8" in capsys.readouterr().err
    assert main(["prepare", "phantom", "--precision", "int8", "--name", "phantom"]) == 2
    assert "give another --name" in capsys.readouterr().err
    monkeypatch.setattr("cxr_server.convert.int8.find_spec", lambda name: None)
    assert main(["prepare", "phantom", "--precision", "int8"]) == 1
    assert "pip install './server[int8]'" in capsys.readouterr().err
    assert not (tmp_path / "home").exists()


@pytest.fixture
def stated(phantom_bundle: Bundle, tmp_path: Path) -> Path:
    """The phantom, as if its graph were in int8."""
    folder = tmp_path / "home" / "stated"
    shutil.copytree(phantom_bundle.path, folder)
    manifest = msgspec.structs.replace(phantom_bundle.manifest, name="stated", quantization=MADE)
    (folder / "model.json").write_text(manifest.to_json())
    return folder


async def test_a_server_the_client_and_the_list_of_models_tell_what_was_measured(
    stated: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cpu, "cpu_flags", lambda cpuinfo: frozenset())
    assert Manifest.from_json((stated / "model.json").read_text()).quantization == MADE
    words = ["--listen", "127.0.0.1:0", "--decode-processes", "0", "--model", str(stated)]
    app = App(parse(words, env={}))
    await app.start()
    try:
        with capture_logs() as logged:
            await app.load()
        address = f"127.0.0.1:{app.port}"
        async with grpc.aio.insecure_channel(address) as channel:
            stub = ChestXrayServiceStub(channel)
            described = await stub.DescribeModel(pb.DescribeModelRequest())
        shown = ["model", "--server", address]
        assert await asyncio.to_thread(cxr, shown) == 0
    finally:
        await app.drain()
    (warned,) = (each for each in logged if each["event"] == "int8 may be no faster")
    assert "reports no instructions for int8" in warned["reason"]
    assert described.precision == "int8"
    told = described.quantization
    assert (told.parent_name, told.films, told.film_count) == ("phantom", "phantoms", 192)
    assert (told.changed_side_count, told.far_changed_side_count) == (3, 1)
    assert told.planted.auc_int8 == pytest.approx(0.999)
    run = header(ModelDescription.of(described, "r"), {}, client_version="1", server_version="1")
    assert run["quantized_from"] == "phantom"
    printed = capsys.readouterr().out
    for part in (
        "quantised from",
        "differs by 0.0662 at most",
        "AUC 1.0000 -> 0.9990",
        "EXCEEDED, accepted by the operator (0.02)",
    ):
        assert part in printed
    assert main(["models", "--bundle-home", str(stated.parent)]) == 0
    line = next(line for line in capsys.readouterr().out.splitlines() if " stated " in line)
    assert "int8 of phantom 0.1.0, probabilities within 0.0662" in line


def test_the_torch_engine_does_not_serve_a_bundle_in_int8(stated: Path) -> None:
    bundle = load_bundle(stated)
    assert ENGINES["openvino"].why_not(bundle) is None
    installed = replace(ENGINES["torch"], packages=())
    assert "does not compute in int8, which stated is for" in (installed.why_not(bundle) or "")


def test_a_bundle_in_int8_is_run_in_the_precision_that_it_was_measured_in(stated: Path) -> None:
    openvino = replace(ENGINES["openvino"], reduced_precisions=lambda device: ("bfloat16",))
    reason = openvino.why_not(load_bundle(stated), precision="bfloat16")
    assert reason == "bundle stated is in int8 and cannot be run in bfloat16"


def test_doctor_tries_the_engine_of_every_model_that_is_served(
    stated: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cpu, "cpu_flags", lambda *_: frozenset({"amx_bf16"}))
    words = ["--model", "phantom", "--model", "stated", "--bundle-home", str(stated.parent)]
    words += ["--precision", "bfloat16", "--listen", "127.0.0.1:0"]
    assert main(["doctor", "--json", *words]) == 1
    checks = {each["name"]: each for each in json.loads(capsys.readouterr().out)["checks"]}
    assert checks["engine to serve stated with"]["state"] == "fail"
    assert "cannot be run in bfloat16" in checks["engine to serve stated with"]["detail"]


Answers = Callable[[np.ndarray], np.ndarray]


def test_a_bundle_in_int8_is_not_refitted(stated: Path) -> None:
    split = PatientSplit(folds=5, fit_fraction=None, seed=0)
    empty = np.empty((0, 0))
    films = Films(
        sha256="",
        run_sha256="",
        weights_sha256="",
        precision="int8",
        preprocessing_id="",
        labels_title="",
        labels_sha256=None,
        findings=(),
        patients=np.empty(0, np.int64),
        has_patients=False,
        probabilities=empty,
        labels=empty,
    )
    with pytest.raises(BundleError, match="refit phantom, and quantise that"):
        refit(load_bundle(stated), films, "mine", criteria={}, split=split, method=None)


def test_differences_count_what_changes_side_and_what_was_far(phantom_bundle: Bundle) -> None:
    manifest = msgspec.structs.replace(
        phantom_bundle.manifest, thresholds=(0.5,) * 6, phantom=False, bias=(0.0,) * 6
    )
    images = [np.full((1, 4, 4), number, np.float32) for number in range(2)]
    ramp = np.linspace(-1, 1, 49, dtype=np.float32).reshape(7, 7)
    logits = {0: [-0.01, -1, -1, -1, -1, -1], 1: [1, -0.2, -1, -1, -1, -1]}
    moved = {0: [0.01, -1, -1, -1, -1, -1], 1: [1, 0.1, -1, -1, -1, -1]}

    def answers(table: dict[int, list[float]], sign: float) -> Answers:
        def infer(image: np.ndarray) -> np.ndarray:
            values = np.array(table[int(image[0, 0, 0])], np.float32)
            return sign * ramp + values[:, None, None]

        return infer

    found = differences(
        manifest,
        [Film(each) for each in images],
        float32=answers(logits, 1),
        reduced=answers(moved, -1),
        margin=0.02,
    )
    assert (found.changed_side_count, found.far_changed_side_count) == (2, 1)
    most = 1 / (1 + np.exp(-0.1)) - 1 / (1 + np.exp(0.2))
    assert found.max_probability == pytest.approx(most, abs=1e-6)
    assert found.mean_probability == pytest.approx((most + 0.005) / 12, abs=1e-5)
    assert found.evidence_correlation == pytest.approx(-1)
    assert found.planted is None
    assert found.max_calibrated_probability is msgspec.UNSET


def test_a_steep_calibration_is_measured_and_counts_against_the_tolerance(
    phantom_bundle: Bundle, stated: Path
) -> None:
    """The raw probability of Effusion differs by 0.005, the calibrated one by 0.8."""
    figures = CalibrationFigures(0.1, 0.1, 1.0)
    curve = Isotonic((-0.01, 0.01), (0.1, 0.9))
    fitted = FindingRefit(
        criterion="youden",
        parent_threshold=0.5,
        image_count=100,
        positive_count=50,
        calibration=FittedCalibration(curve, figures, figures),
    )
    manifest = phantom_bundle.manifest
    made_of = Refit(
        **dict.fromkeys(("parent_name", "parent_version"), "phantom"),
        **dict.fromkeys(("parent_sha256", "evaluation_sha256", "run_sha256"), "ab" * 32),
        weights_sha256=manifest.weights_sha256,
        labels_title="t",
        labels_sha256=None,
        image_count=100,
        patient_count=None,
        split=PatientSplit(folds=5, fit_fraction=None, seed=0),
        calibration_method="isotonic",
        findings={"Effusion": fitted},
    )
    refitted = msgspec.structs.replace(
        manifest, refit=made_of, bias=(0.0,) * 6, thresholds=(0.9,) * 6, phantom=False
    )
    found = differences(
        refitted,
        [Film(np.zeros((1, 4, 4), np.float32))],
        float32=lambda _: np.full((6, 7, 7), -0.01, np.float32),
        reduced=lambda _: np.full((6, 7, 7), 0.01, np.float32),
        margin=0.02,
    )
    assert found.max_probability == pytest.approx(0.005, abs=1e-4)
    assert found.max_calibrated_probability == pytest.approx(0.8, abs=1e-4)
    assert found.mean_calibrated_probability == pytest.approx(0.8, abs=1e-4)
    assert "calibrated probability: differs by 0.8000 at most" in "\n".join(told(found, 0.02))
    made = msgspec.structs.replace(MADE, differences=found)
    assert not made.within_tolerance
    assert msgspec.structs.replace(made, tolerance=0.9).within_tolerance
    text = msgspec.structs.replace(refitted, quantization=made).to_json()
    assert Manifest.from_json(text).quantization == made
    assert "calibrated_probability" not in (stated / "model.json").read_text()


def test_auc_and_pointing_are_those_of_their_definitions() -> None:
    values = np.array([0.1, 0.4, 0.4, 0.9])
    assert auc(values, np.array([False, False, True, True])) == pytest.approx(3.5 / 4)
    evidence = np.zeros((7, 7))
    evidence[2, 3] = 1  # the centre is at row 80, column 112 of 224
    mask = np.zeros((224, 224), np.bool_)
    mask[80, 112 + 30] = True
    assert points_at(evidence, mask)
    assert not points_at(evidence, np.roll(mask, 4, axis=1))


def test_without_a_folder_phantoms_are_drawn_or_else_the_samples_are_used(
    phantom_bundle: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(films, "find_spec", lambda name: None)
    found = films.find_films(None, phantom_bundle.manifest)
    assert (found.source, len(found.calibration), len(found.measured)) == ("samples", 4, 4)
    with pytest.raises(BundleError, match="has 0 usable films, and 20 are needed"):
        films.find_films(tmp_path, phantom_bundle.manifest)


@pytest.mark.slow
def test_drawn_phantoms_come_with_their_masks_and_differ_between_the_two_halves(
    phantom_bundle: Bundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(films, "DRAWN", (8, 16))
    found = films.find_films(None, phantom_bundle.manifest)
    assert (found.source, len(found.calibration), len(found.measured)) == ("phantoms", 8, 16)
    assert sum("effusion" in film.masks for film in found.measured) == 4
    images = {film.image_chw.tobytes() for film in (*found.calibration, *found.measured)}
    assert len(images) == 24


def test_the_cpu_is_asked_what_it_computes_in(tmp_path: Path) -> None:
    assert {"FP32", "INT8"} <= set(cpu.openvino_capabilities())
    assert "OpenVINO: " in cpu.told()
    info = tmp_path / "cpuinfo"
    info.write_text("processor\t: 0\nflags\t\t: fpu avx2 avx512f\n")
    assert "may not be faster here" in (cpu.int8_doubt(info) or "")
    info.write_text("processor\t: 0\nflags\t\t: fpu avx512f avx512_vnni\n")
    assert cpu.int8_doubt(info) is None
    info.write_text("processor\t: 0\nFeatures\t: fp asimd asimddp\n")
    assert cpu.int8_doubt(info) is None
    assert cpu.int8_doubt(tmp_path / "missing") is not None
