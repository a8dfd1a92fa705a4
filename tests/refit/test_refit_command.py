"""`cxr-server refit`: a run -> an evaluation -> a bundle that is served with other thresholds."""

import csv
import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import grpc
import msgspec
import numpy as np
import pytest

from cxr.v1 import chest_xray_pb2 as pb
from cxr.v1.chest_xray_pb2_grpc import ChestXrayServiceStub
from cxr_client import Client
from cxr_client.cli import main as cxr
from cxr_client.runs import Run
from cxr_phantom.draw import draw_phantom
from cxr_server.__main__ import main
from cxr_server.bundles.load import Bundle, load_bundle
from images import png
from serving import ServerProcess
from simulated_runs import drawn_scores, header, image, write_run

N, PATIENTS = 400, 200
SHARES = {"Cardiomegaly": 0.3, "Effusion": 0.4, "Mass": 0.25, "Nodule": 0.0}
"""Of positives, by finding. The nodules are too few: six."""

CRITERIA = {"Cardiomegaly": "youden", "Effusion": "sensitivity=0.95", "Mass": "youden"}


def evaluate(folder: Path, run: Path, labels: Path, name: str = "evaluation") -> dict[str, Any]:
    """Evaluate a run; return the JSON file."""
    words = ["--labels", labels, "--format", "csv", "--patient-column", "patient"]
    output = folder / f"{name}.html"
    status = cxr(["evaluate", *map(str, [run, *words, "--output", output, "--replicates", 20])])
    assert status == 0
    found: dict[str, Any] = json.loads(output.with_suffix(".json").read_text())
    return found


def write_labels(path: Path, labels: dict[str, np.ndarray], files: list[str]) -> Path:
    with path.open("w", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(["image", "patient", *labels])
        for index, name in enumerate(files):
            values = [int(each[index]) for each in labels.values()]
            rows.writerow([name, f"p{index // 2}", *values])
    return path


@pytest.fixture(scope="module")
def evaluated(phantom_bundle: Bundle, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of an evaluation of 400 images of 200 patients, of the phantom's weights."""
    folder = tmp_path_factory.mktemp("evaluated")
    manifest = phantom_bundle.manifest
    random = np.random.default_rng(0)
    labels = {name: random.random(N) < share for name, share in SHARES.items()}
    labels["Nodule"] = np.arange(N) < 6
    scores = {
        label: drawn_scores(labels.get(label, np.zeros(N)), index, 2.5)
        for index, label in enumerate(manifest.labels)
    }
    files = [f"{number:04}.png" for number in range(N)]
    first = header(manifest.labels)
    first["model"] = {
        "name": manifest.name,
        "version": manifest.version,
        "weights_sha256": manifest.weights_sha256,
    }
    first["preprocessing_id"] = manifest.preprocessing_id
    first["thresholds"] = dict(zip(manifest.labels, manifest.thresholds, strict=True))
    rows = [
        image(name, {label: scores[label][index] for label in manifest.labels})
        for index, name in enumerate(files)
    ]
    run = write_run(folder / "run.jsonl", first, rows)
    evaluate(folder, run, write_labels(folder / "labels.csv", labels, files))
    return folder


Refit = Callable[..., int]


@pytest.fixture
def refit(evaluated: Path, tmp_path: Path) -> Refit:
    def run(*words: object, name: str = "mine", file: Path | None = None) -> int:
        source = ["--from", file or evaluated / "evaluation.json", "--name", name]
        home = ["--bundle-home", tmp_path / "home"]
        return main(list(map(str, ["refit", "phantom", *source, *home, *words])))

    return run


@pytest.fixture(scope="module")
def home(evaluated: Path) -> Path:
    """A folder with a bundle that was refitted and calibrated."""
    words: list[object] = ["refit", "phantom", "--from", evaluated / "evaluation.json"]
    words += ["--name", "mine", "--calibrate", "platt", "--bundle-home", evaluated / "home"]
    for finding, criterion in CRITERIA.items():
        words += ["--criterion", f"{finding}={criterion}"]
    assert main(list(map(str, words))) == 0
    return evaluated / "home"


@pytest.fixture(scope="module")
def served(home: Path) -> Iterator[ServerProcess]:
    """A server with that bundle."""
    with ServerProcess("--bundle-home", str(home), model="mine") as server:
        yield server
        assert server.stop() == 0


def test_the_manifest_says_what_was_fitted_to_what(home: Path, evaluated: Path) -> None:
    manifest = load_bundle(home / "mine").manifest
    document = json.loads((evaluated / "evaluation.json").read_text())
    assert manifest.refit
    assert manifest.refit.parent_name == "phantom"
    assert manifest.refit.labels_sha256 == document["labels"]["sha256"]
    assert manifest.refit.run_sha256 == document["run"]["sha256"]
    assert (manifest.refit.image_count, manifest.refit.patient_count) == (N, PATIENTS)
    assert "Cross-fitted in 5 folds of patients" in manifest.refit.split_sentence
    found = manifest.refit.findings
    assert set(found) == set(SHARES)
    assert {name: found[name].criterion for name in CRITERIA} == CRITERIA
    assert found["Nodule"].kept_reason == "fewer than 10 positives or negatives"
    assert found["Nodule"].calibration is None
    for finding in document["findings"]:
        each = found[finding["finding"]]
        assert (each.image_count, each.positive_count) == (finding["n"], finding["positives"])
    effusion = found["Effusion"]
    assert effusion.sensitivity
    assert effusion.sensitivity.low < 0.95 < effusion.sensitivity.high
    assert effusion.calibration
    assert effusion.calibration.calibrated.slope == pytest.approx(1, abs=0.2)


def test_scores_move_with_the_operating_points_and_nothing_else_does(
    served: ServerProcess, home: Path, phantom_stub: ChestXrayServiceStub, phantom_bundle: Bundle
) -> None:
    manifest = load_bundle(home / "mine").manifest
    assert manifest.refit
    assert manifest.files == phantom_bundle.manifest.files
    film = png(draw_phantom(5, findings=("Effusion",), size_px=224).pixels_hw)
    request = pb.ExplainRequest(
        image=film,
        labels=manifest.labels,
        include_embedding=True,
        render=pb.RenderOptions(kind=pb.RENDER_KIND_NONE),
    )
    before = phantom_stub.Explain(request)
    with grpc.insecure_channel(served.address) as channel:
        stub = ChestXrayServiceStub(channel)
        after = stub.Explain(request)
        described = stub.DescribeModel(pb.DescribeModelRequest())
    assert after.model.name == "mine"
    assert after.model.version.startswith(f"{before.model.version}+refit.")
    assert after.model.weights_sha256 == before.model.weights_sha256
    assert after.embedding == before.embedding
    assert after.typicality == before.typicality
    thresholds = dict(zip(manifest.labels, manifest.thresholds, strict=True))
    for old, new in zip(before.explanations, after.explanations, strict=True):
        label, was, finding = new.finding.label, old.finding, new.finding
        assert (new.evidence, new.logit, new.peak) == (old.evidence, old.logit, old.peak)
        assert finding.probability == was.probability
        assert finding.threshold == pytest.approx(thresholds[label], rel=1e-6)
        assert (finding.threshold == was.threshold) == (label not in CRITERIA)
        assert finding.above_threshold == (finding.probability > finding.threshold)
        assert finding.above_threshold == (finding.score > 0.5)
        assert finding.HasField("calibrated_probability") == (label in CRITERIA)
        assert not was.HasField("calibrated_probability")
        if label in CRITERIA:
            fitted = manifest.refit.findings[label].calibration
            assert fitted
            expected = fitted.curve.probability(new.logit)
            assert finding.calibrated_probability == pytest.approx(expected, rel=1e-4)
    assert described.refit.parent_name == "phantom"
    assert described.refit.calibration_method == "platt"
    assert {each.label for each in described.findings if each.HasField("refit")} == set(SHARES)


def test_the_command_line_shows_the_fit_and_the_calibrated_probability(
    served: ServerProcess, home: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    film = tmp_path / "film.png"
    film.write_bytes(png(draw_phantom(6, size_px=224).pixels_hw))

    def printed(*words: object) -> str:
        assert cxr([str(word) for word in (*words, "--server", served.address)]) == 0
        return capsys.readouterr().out

    model = printed("model")
    assert "refitted from" in model
    assert "sensitivity=0.95: sens. 0.9" in model
    assert "kept: fewer than 10 positives or negatives" in model
    assert "platt, for films like these only" in model
    described = json.loads(printed("model", "--json"))
    assert described["refit"]["patient_count"] == PATIENTS
    effusion = next(each for each in described["findings"] if each["label"] == "Effusion")
    assert effusion["refit"]["sensitivity"]["low"] < effusion["refit"]["sensitivity"]["value"]

    assert "calibrated" in printed("predict", film).splitlines()[1]
    findings = json.loads(printed("predict", film, "--json", "--top-k", 99))["findings"]
    calibrated = {each["label"]: each["calibrated_probability"] for each in findings}
    assert {label for label, value in calibrated.items() if value is not None} == set(CRITERIA)
    rows = list(csv.DictReader(printed("predict", film, "--csv", "--top-k", 99).splitlines()))
    assert {row["label"] for row in rows if row["calibrated_probability"]} == set(CRITERIA)
    with Client(served.address) as client:
        prediction = client.predict(film.read_bytes(), top_k=99)
    effusion_now = prediction["Effusion"].calibrated_probability
    assert effusion_now == pytest.approx(calibrated["Effusion"])
    assert prediction["Nodule"].calibrated_probability is None

    assert main(["models", "--bundle-home", str(home)]) == 0
    line = next(line for line in capsys.readouterr().out.splitlines() if " mine " in line)
    assert "refitted from phantom 0.1.0 to" in line


@pytest.mark.slow
def test_a_run_of_a_refitted_model_is_evaluated_as_one(
    served: ServerProcess, evaluated: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "films"
    folder.mkdir()
    for seed in range(24):
        film = draw_phantom(seed, ("Effusion",) if seed % 2 else (), size_px=64)
        (folder / f"{seed:04}.png").write_bytes(png(film.pixels_hw))
    for suffix in ("csv", "parquet"):
        words = [folder, "--output", tmp_path / f"run.{suffix}", "--wide", "--quiet"]
        assert cxr([*map(str, ["predict", *words]), "--server", served.address]) == 0
    run = tmp_path / "run.csv.jsonl"
    assert Run.read(run).header["refit"]["calibration_method"] == "platt"
    with (tmp_path / "run.csv").open(newline="") as table:
        rows = list(csv.DictReader(table))
    assert all(row["Effusion_calibrated_probability"] for row in rows)
    assert not any(row["Nodule_calibrated_probability"] for row in rows)
    document = evaluate(tmp_path, run, evaluated / "labels.csv")
    effusion = next(each for each in document["findings"] if each["finding"] == "Effusion")
    raw, calibrated = effusion["calibration"], effusion["calibrated"]
    assert 0 <= calibrated["brier"] <= 1
    assert raw["mean_probability"] != calibrated["mean_probability"]
    assert next(f for f in document["findings"] if f["finding"] == "Nodule")["calibrated"] is None
    assert any("fitted with this label file" in each for each in document["cautions"])
    page = (tmp_path / "evaluation.html").read_text()
    assert "by a refit of phantom" in page
    assert '<td class="text">calibrated</td>' in page


def test_the_same_refit_again_changes_nothing_and_another_is_refused(
    refit: Refit, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert refit("--fit-fraction", 0.6, "--calibrate", "isotonic") == 0
    manifest = tmp_path / "home" / "mine" / "model.json"
    before = manifest.read_bytes()
    assert refit("--fit-fraction", 0.6, "--calibrate", "isotonic") == 0
    printed = capsys.readouterr().out
    assert "there already is" in printed
    assert "Fitted to 60% of the patients (seed 0)" in printed
    assert refit("--fit-fraction", 0.6) == 1
    assert "choose another name" in capsys.readouterr().err
    assert manifest.read_bytes() == before
    assert refit("--seed", 7, name="other") == 0
    assert {each.name for each in (tmp_path / "home").iterdir()} == {"mine", "other"}


def test_a_refitted_bundle_is_not_refitted(
    home: Path, evaluated: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["--from", str(evaluated / "evaluation.json"), "--name", "x"]
    assert main(["refit", "mine", *words, "--bundle-home", str(home)]) == 1
    assert "refit phantom" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["--criterion", "best"], "neither a criterion"),
        (["--criterion", "Effusion=best"], "there is no criterion 'best'"),
        (["--criterion", "Pneumonia=youden"], "neither a criterion nor a finding"),
        (["--criterion", "Pneumothorax=youden"], "has no labels of Pneumothorax"),
        (["--criterion", "sensitivity=2"], "sensitivity=X"),
        (["--folds", "1"], "--folds must be from 2 to 100"),
        (["--fit-fraction", "1"], "--fit-fraction must be between"),
        (["--folds", "3", "--fit-fraction", "0.5"], "not allowed with"),
        (["--name", "phantom"], "that of a published model"),
        (["--name", "densenet121-res224-all"], "that of a published model"),
        (["--name", "../x"], "not a valid name"),
    ],
)
def test_what_cannot_be_meant_is_a_usage_error(
    refit: Refit, tmp_path: Path, capsys: pytest.CaptureFixture[str], words: list[str], told: str
) -> None:
    assert refit(*words) == 2
    assert told in capsys.readouterr().err
    assert not (tmp_path / "home").exists()


@pytest.fixture
def copied(evaluated: Path, tmp_path: Path) -> Path:
    """An evaluation of its own, to change."""
    for name in ("evaluation.json", "evaluation.films.csv"):
        shutil.copy(evaluated / name, tmp_path / name)
    return tmp_path / "evaluation.json"


def changed(path: Path, **fields: Any) -> None:
    path.write_text(json.dumps(json.loads(path.read_text()) | fields))


def test_an_evaluation_of_other_weights_another_precision_or_other_pixels_is_refused(
    refit: Refit, copied: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = json.loads(copied.read_text())["run"]
    changed(copied, run=run | {"model": run["model"] | {"weights_sha256": "ab" * 32}})
    assert refit(file=copied) == 1
    assert "is of other weights (abababababab...)" in capsys.readouterr().err
    changed(copied, run=run | {"precision": "int8"})
    assert refit(file=copied) == 1
    assert "scored in int8" in capsys.readouterr().err
    changed(copied, run=run | {"preprocessing_id": "other"})
    assert refit(file=copied) == 1
    assert "preprocessed by other" in capsys.readouterr().err


def test_a_file_that_is_no_evaluation_or_was_changed_is_refused(
    refit: Refit, copied: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def told() -> str:
        assert refit(file=copied) == 1
        return capsys.readouterr().err

    table = copied.with_name("evaluation.films.csv")
    content = table.read_text()
    table.write_text(content.replace(",1,", ",0,", 1))
    assert "evaluation.films.csv is not the table of evaluation.json" in told()
    table.unlink()
    assert "evaluation.films.csv: No such file" in told()
    rows = json.loads(copied.read_text())["rows"]
    changed(copied, rows=rows | {"file": "../evaluation.films.csv"})
    assert "a table in another folder" in told()
    changed(copied, format="cxr-comparison")
    assert "not a JSON file of `cxr evaluate RUN`" in told()
    for text in ("", "[]", "\0", "[" * 100_000, '{"format": "cxr-evaluation"}'):
        copied.write_text(text)
        assert "not a JSON file of `cxr evaluate RUN`" in told()


def test_a_manifest_that_contradicts_itself_is_refused(home: Path) -> None:
    manifest = load_bundle(home / "mine").manifest
    assert manifest.refit
    for change, told in (
        ({"weights_sha256": "ab" * 32}, "other weights"),
        ({"findings": {"Unknown": manifest.refit.findings["Mass"]}}, "not in labels"),
    ):
        wrong = msgspec.structs.replace(manifest.refit, **change)
        with pytest.raises(ValueError, match=told):
            msgspec.structs.replace(manifest, refit=wrong)


@pytest.mark.slow
def test_phantoms_are_drawn_scored_evaluated_refitted_and_served(
    phantom_server: ServerProcess, tmp_path: Path
) -> None:
    films, labels = tmp_path / "films", dict[str, np.ndarray]()
    films.mkdir()
    # On small films, the model errs with these.
    for name in ("Nodule", "Consolidation"):
        labels[name] = np.zeros(240, bool)
    for index in range(240):
        drawn = draw_phantom(40_000_000 + index, size_px=64)
        for name, values in labels.items():
            values[index] = name in drawn.masks
        (films / f"{index:04}.png").write_bytes(png(drawn.pixels_hw))
    files = [f"{index:04}.png" for index in range(240)]
    truth = write_labels(tmp_path / "labels.csv", labels, files)
    run = tmp_path / "run.jsonl"
    words = ["predict", films, "--output", run, "--quiet", "--server", phantom_server.address]
    assert cxr(list(map(str, words))) == 0
    evaluate(tmp_path, run, truth)
    source = ["--from", tmp_path / "evaluation.json", "--name", "mine"]
    options = ["--criterion", "specificity=0.9", "--bundle-home", tmp_path]
    assert main(list(map(str, ["refit", "phantom", *source, *options]))) == 0
    manifest = load_bundle(tmp_path / "mine").manifest
    assert manifest.refit
    again = tmp_path / "again.jsonl"
    with ServerProcess("--bundle-home", str(tmp_path), model="mine") as server:
        words = ["predict", films, "--output", again, "--quiet", "--server", server.address]
        assert cxr(list(map(str, words))) == 0
    found = {each["finding"]: each for each in evaluate(tmp_path, again, truth, "b")["findings"]}
    for name in labels:
        stated = manifest.refit.findings[name].specificity
        assert stated
        # On the films that it was fitted to, it is reached; on others, about.
        assert found[name]["specificity"]["value"] >= 0.9
        assert stated.low <= found[name]["specificity"]["value"]
        assert stated.value == pytest.approx(0.9, abs=0.1)
        assert found[name]["threshold"] == pytest.approx(
            manifest.thresholds[manifest.labels.index(name)], rel=1e-6
        )
