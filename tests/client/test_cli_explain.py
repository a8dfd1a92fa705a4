"""What `cxr explain` asks for, prints and writes."""

import csv
import json
import subprocess
import sys
from io import StringIO
from pathlib import Path

import pytest

from clients import PNG
from cxr.v1 import chest_xray_pb2 as pb
from cxr_client import enums
from cxr_client.results import Explanation
from cxr_client.testing import FakeServer, default_answer, failure
from cxr_command import CXR, Run, names_in


def test_a_picture_is_written_for_each_label_without_overwriting(
    cxr: Run, folder: Path, tmp_path: Path
) -> None:
    (folder / "z.jpg").write_bytes(b"another film of the same name")
    output = tmp_path / "out"
    labels = ["--label", "Nodule", "--label", "Effusion"]
    status, out, _ = cxr("explain", "-v", *labels, "--output", output, folder)
    assert status == 0
    stems = ["a", "b/c/y", "b/x", "z", "z-2"]
    expected = [f"{stem}-{label}.png" for stem in stems for label in ("Effusion", "Nodule")]
    assert names_in(output) == sorted(expected)
    assert (output / "a-Nodule.png").read_bytes().startswith(PNG)
    assert str(output / "b" / "c" / "y-Effusion.png") in out


@pytest.mark.parametrize("file_format", ["png", "jpeg"])
def test_the_radiograph_is_written_once_for_all_labels(
    cxr: Run, folder: Path, file_format: str
) -> None:
    output = folder / "out"
    options = ["--kind", "radiograph", "--label", "all", "--json", "--format", file_format]
    options += ["--heatmap-label", "nodule", "--output", output]
    status, out, err = cxr("explain", *options, folder)
    suffix = {"png": ".png", "jpeg": ".jpg"}[file_format]
    assert status == 0
    stems = ["a", "b/c/y", "b/x", "z"]
    assert names_in(output) == sorted(f"{stem}-radiograph{suffix}" for stem in stems)
    assert f"{len(stems)} pictures written" in err
    for line in map(json.loads, out.splitlines()):
        assert len(line["explanations"]) == 3
        (picture,) = {each["picture"] for each in line["explanations"]}
        assert Path(picture).read_bytes()
        assert "radiograph" not in line


def test_a_radiograph_that_is_too_large_is_not_asked_for_in_parts(
    cxr: Run, fake: FakeServer, folder: Path
) -> None:
    fake.script(failure("INVALID_ARGUMENT", "EXPLANATION_TOO_LARGE", "too large"), rpc="Explain")
    arguments = ["--kind", "radiograph", "--label", "all", "--output", folder / "out"]
    status, _, err = cxr("explain", *arguments, folder / "a.JPG")
    assert status == 1
    assert "too large" in err
    assert [call.rpc for call in fake.calls].count("Explain") == 1


def test_all_labels_of_the_model_are_explained_without_naming_them(
    cxr: Run, fake: FakeServer, folder: Path
) -> None:
    status, _, _ = cxr("explain", "--label", "all", "--output", folder / "out", folder / "a.JPG")
    assert status == 0
    assert fake.calls[-1].request.labels == ["Effusion", "Cardiomegaly", "Nodule"]
    assert len(names_in(folder / "out")) == 3


@pytest.mark.parametrize("typed", ["lung_opacity", "Lung Opacity", "LUNG-OPACITY"])
def test_a_label_is_known_by_any_case_and_by_its_file_name(
    cxr: Run, fake: FakeServer, folder: Path, typed: str
) -> None:
    described: pb.DescribeModelResponse = default_answer(pb.DescribeModelRequest())
    described.findings.add(label="Lung Opacity", class_index=3, threshold=0.5)
    fake.answer("DescribeModel", described)
    arguments = ["--label", typed, "--output", folder / "out", folder / "a.JPG"]
    assert cxr("explain", *arguments)[0] == 0
    assert fake.calls[-1].request.labels == ["Lung Opacity"]
    assert names_in(folder / "out") == ["a-Lung_Opacity.png"]


@pytest.mark.parametrize(
    ("typed", "hint"),
    [
        ("efusion", '"efusion"; did you mean Effusion? "cxr model" lists'),
        ("effusion,nodule", '"effusion,nodule"; give --label once for each finding'),
        ("xyz", '"xyz"; "cxr model" lists all 3 (see cxr explain --help)'),
    ],
)
def test_an_unknown_label_is_refused_before_any_image_is_sent(
    cxr: Run, fake: FakeServer, folder: Path, typed: str, hint: str
) -> None:
    status, out, err = cxr("explain", "--label", typed, "--output", folder / "out", folder)
    assert (status, out) == (2, "")
    assert err.startswith(f"cxr: --label: the model has no finding {hint}")
    assert '"cxr model" lists all 3' in err
    assert [call.rpc for call in fake.calls] == ["DescribeModel"]


def test_a_heatmap_label_that_is_not_explained_is_refused(cxr: Run, folder: Path) -> None:
    arguments = ["--label", "Nodule", "--heatmap-label", "effusion", "--output", folder / "out"]
    status, _, err = cxr("explain", *arguments, folder / "a.JPG")
    assert status == 2
    assert '--heatmap-label: "Effusion" is not explained' in err


def test_labels_that_the_server_does_not_draw_in_one_call_are_asked_for_in_several(
    cxr: Run, fake: FakeServer, folder: Path
) -> None:
    fake.script(failure("RESOURCE_EXHAUSTED", "EXPLANATION_TOO_LARGE"), rpc="Explain")
    arguments = ["--label", "all", "--json", "--output", folder / "out", folder / "a.JPG"]
    status, out, _ = cxr("explain", *arguments)
    explained = [each["finding"]["label"] for each in json.loads(out)["explanations"]]
    assert (status, explained) == (0, ["Effusion", "Cardiomegaly", "Nodule"])
    asked = [list(call.request.labels) for call in fake.calls if call.rpc == "Explain"]
    assert asked[1:] == [["Effusion"], ["Cardiomegaly", "Nodule"]]
    assert len(names_in(folder / "out")) == 3


def test_parts_of_a_call_draw_what_was_asked_for_and_nothing_else(
    cxr: Run, fake: FakeServer, folder: Path
) -> None:
    fake.script(failure("RESOURCE_EXHAUSTED", "EXPLANATION_TOO_LARGE"), rpc="Explain")
    arguments = ["--label", "all", "--heatmap-label", "nodule", "--output", folder / "out"]
    assert cxr("explain", *arguments, folder / "a.JPG")[0] == 0
    assert names_in(folder / "out") == ["a-Nodule.png"]


def test_only_findings_above_their_operating_point_are_explained_where_asked(
    cxr: Run, fake: FakeServer, folder: Path
) -> None:
    fake.answer("Predict", default_answer)
    arguments = ["--above-threshold", "--json", "--output", folder / "out", folder / "a.JPG"]
    status, out, _ = cxr("explain", *arguments)
    assert status == 0
    answer = json.loads(out)
    assert [each["finding"]["label"] for each in answer["explanations"]] == ["Effusion"]
    assert len(answer["findings"]) == 3
    assert names_in(folder / "out") == ["a-Effusion.png"]


@pytest.mark.parametrize("many", [False, True])
def test_an_image_without_a_finding_above_its_operating_point_says_so_and_is_no_failure(
    cxr: Run, fake: FakeServer, folder: Path, many: bool
) -> None:
    def all_low(request: pb.PredictRequest) -> pb.PredictResponse:
        answer: pb.PredictResponse = default_answer(request)
        answer.findings[0].above_threshold = False
        return answer

    fake.answer("Predict", all_low)
    arguments = ["--above-threshold", "--output", folder / "out"]
    status, out, _ = cxr("explain", *arguments, folder if many else folder / "a.JPG")
    assert status == 0
    assert out.count("above its operating point") == (4 if many else 1)
    assert names_in(folder / "out") == []
    assert {call.rpc for call in fake.calls} == {"Predict"}


def test_above_the_threshold_counts_among_the_labels_that_are_given(
    cxr: Run, fake: FakeServer, folder: Path
) -> None:
    fake.answer("Predict", default_answer)
    arguments = ["--above-threshold", "--output", folder / "out", folder / "a.JPG"]
    status, out, _ = cxr("explain", "--label", "Nodule", *arguments)
    assert status == 0
    assert "no finding to explain is above its operating point" in out
    assert names_in(folder / "out") == []


def test_pictures_are_drawn_in_the_original_frame_with_a_legend_unless_told_otherwise(
    cxr: Run, fake: FakeServer, folder: Path
) -> None:
    arguments = ["explain", "--output", folder / "out", folder / "a.JPG"]
    assert cxr(*arguments)[0] == 0
    assert fake.calls[-1].request.render == pb.RenderOptions(
        frame=pb.RENDER_FRAME_ORIGINAL, legend=True
    )
    assert cxr(*arguments, "--frame", "model-input", "--no-legend")[0] == 0
    assert fake.calls[-1].request.render == pb.RenderOptions(
        frame=pb.RENDER_FRAME_MODEL_INPUT, legend=False
    )


def test_every_option_is_passed_on(cxr: Run, fake: FakeServer, folder: Path) -> None:
    options = "--frame original --color-map viridis --legend --kind none --opacity 0.25 "
    options += "--max-side 64 --scale fixed --method layer-cam --format jpeg --strict "
    options += "--fixed-scale 40 --contours --no-cache "
    options += "--label Effusion --label Nodule --heatmap-label Nodule"
    status, out, _ = cxr("explain", *options.split(), "--output", folder / "out", folder / "a.JPG")
    assert status == 0
    request = fake.calls[-1].request
    assert request.render == pb.RenderOptions(
        kind=pb.RENDER_KIND_NONE,
        frame=pb.RENDER_FRAME_ORIGINAL,
        color_map=pb.COLOR_MAP_VIRIDIS,
        opacity=0.25,
        legend=True,
        max_side_px=64,
        scale=pb.HEAT_SCALE_FIXED,
        format=pb.RENDER_FORMAT_JPEG,
        fixed_scale_logits=40,
        contours=True,
    )
    assert (request.labels, request.heatmap_labels) == (["Effusion", "Nodule"], ["Nodule"])
    assert request.method == pb.EXPLANATION_METHOD_LAYER_CAM
    assert request.strict_input
    assert request.cache == pb.CACHE_MODE_BYPASS
    assert not (folder / "out").exists()
    assert "Nodule" in out


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


def test_the_table_has_every_score_and_the_map_of_each_explained_finding(
    cxr: Run, folder: Path
) -> None:
    output = folder / "out"
    status, out, _ = cxr("explain", "--label", "nodule", "--output", output, folder / "a.JPG")
    assert status == 0
    rows = [line.split() for line in out.splitlines()[2:5]]
    assert rows == [
        ["*", "Effusion", "0.750"],
        ["Cardiomegaly", "0.250"],
        ["Nodule", "0.125", "-2.708", "320,", "240", str(output / "a-Nodule.png")],
    ]


def test_csv_has_scores_and_maps_in_one_pass(cxr: Run, folder: Path) -> None:
    output = folder / "out"
    arguments = ["explain", "--csv", "--label", "nodule", "--output", output, folder / "a.JPG"]
    status, out, _ = cxr(*arguments)
    assert status == 0
    rows = list(csv.DictReader(StringIO(out)))
    assert [row["label"] for row in rows] == ["Effusion", "Cardiomegaly", "Nodule"]
    assert [row["picture"] for row in rows] == ["", "", str(output / "a-Nodule.png")]
    assert [row["peak_x_px"] for row in rows] == ["", "", "320.0"]
    assert float(rows[2]["logit"]) == pytest.approx(-2.708, abs=1e-3)


def test_json_has_the_numbers_of_the_maps_and_names_the_pictures(cxr: Run, folder: Path) -> None:
    _, out, _ = cxr("explain", "--json", "--output", folder / "out", folder / "z.png")
    answer = json.loads(out)
    assert [each["label"] for each in answer["findings"]] == ["Effusion", "Cardiomegaly", "Nodule"]
    (explanation,) = answer["explanations"]
    assert "heatmap" not in explanation
    assert explanation["method"] == "GRAD_CAM"
    assert explanation["evidence"]["rows"] == explanation["evidence"]["columns"] == 7
    assert len(explanation["evidence"]["values"]) == 49
    assert explanation["picture"] == str(folder / "out" / "z-Effusion.png")


def test_pictures_get_the_suffix_of_their_format_and_only_where_they_are_drawn(
    cxr: Run, folder: Path
) -> None:
    options = ["--format", "JPEG", "--label", "Effusion", "--label", "Nodule", "--json"]
    options += ["--heatmap-label", "Nodule", "--output", folder / "out"]
    status, out, _ = cxr("explain", *options, folder / "a.JPG")
    assert status == 0
    assert names_in(folder / "out") == ["a-Nodule.jpg"]
    assert (folder / "out" / "a-Nodule.jpg").read_bytes().startswith(b"\xff\xd8\xff")
    pictures = [each["picture"] for each in json.loads(out)["explanations"]]
    assert pictures == [None, str(folder / "out" / "a-Nodule.jpg")]


def test_a_label_cannot_lead_out_of_the_output_folder(
    cxr: Run, fake: FakeServer, folder: Path
) -> None:
    answer: pb.ExplainResponse = default_answer(pb.ExplainRequest())
    answer.explanations[0].finding.label = "../../evil"
    fake.answer("Explain", answer)
    assert cxr("explain", "--output", folder / "out", folder / "a.JPG")[0] == 0
    assert names_in(folder / "out") == ["a-______evil.png"]


def test_pictures_of_an_earlier_run_are_skipped_and_counted(
    cxr: Run, fake: FakeServer, folder: Path
) -> None:
    assert cxr("explain", "--output", folder / "maps", folder)[0] == 0
    assert cxr("explain", "--format", "jpeg", "--output", folder / "maps", folder)[0] == 0
    sent = len(fake.calls)
    for command in (["predict"], ["explain", "--output", folder / "other"]):
        status, _, err = cxr(*command, folder)
        assert status == 0
        assert "8 heatmaps" in err
    assert len(fake.calls) - sent == 8


@pytest.mark.parametrize("image_format", ["png", "jpeg"])
def test_a_picture_that_is_named_is_refused_before_it_is_sent(
    cxr: Run, fake: FakeServer, folder: Path, image_format: str
) -> None:
    arguments = ["--format", image_format, "--output", folder / "maps", folder / "a.JPG"]
    assert cxr("explain", *arguments)[0] == 0
    (picture,) = (folder / "maps").iterdir()
    sent = len(fake.calls)
    status, out, err = cxr("predict", picture)
    assert (status, out) == (1, "")
    assert f"cxr: {picture}: This picture was drawn by cxr-serve" in err
    assert len(fake.calls) == sent


@pytest.mark.parametrize("kind", ["a file", "below a file"])
def test_a_bad_output_folder_is_blamed_before_any_image_is_sent(
    cxr: Run, fake: FakeServer, folder: Path, kind: str
) -> None:
    output = folder / "notes.txt" if kind == "a file" else folder / "notes.txt" / "maps"
    status, out, err = cxr("explain", "--output", output, folder)
    assert (status, out) == (2, "")
    assert err.startswith(f"cxr: --output {output}: ")
    assert not fake.calls


def test_a_picture_that_the_disk_does_not_take_costs_its_image_alone(
    fake: FakeServer, folder: Path
) -> None:
    def large_for_one(request: pb.ExplainRequest) -> pb.ExplainResponse:
        answer: pb.ExplainResponse = default_answer(request)
        if len(request.image) == 2:
            answer.explanations[0].heatmap += bytes(10_000)
        return answer

    fake.answer("Explain", large_for_one)
    limit = "import resource; resource.setrlimit(resource.RLIMIT_FSIZE, (5000, 5000)); "
    command = [sys.executable, "-c", limit + CXR[2], "explain", "--server", fake.address]
    command += ["--jobs", "1", "--output", str(folder / "out"), str(folder)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=100)
    assert done.returncode == 1
    assert f"cxr: {folder}/a.JPG: cannot write {folder}/out/a-Effusion: " in done.stderr
    assert "3 answered, 1 failed" in done.stderr
    assert names_in(folder / "out") == ["b/c/y-Effusion.png", "b/x-Effusion.png", "z-Effusion.png"]


def test_a_picture_that_is_written_again_is_whole_at_any_time(tmp_path: Path) -> None:
    answer: pb.ExplainResponse = default_answer(pb.ExplainRequest())
    explanation = Explanation.of(answer.explanations[0])
    path = explanation.save(tmp_path / "map.png")
    with path.open("rb") as reader:  # Opened before the second picture is written.
        explanation.save(tmp_path / "map.png")
        assert reader.read() == explanation.heatmap
    assert names_in(tmp_path) == ["map.png"]
