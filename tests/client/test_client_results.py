"""Results: every field of a reply is converted, and an inconsistent reply is an error."""

import dataclasses
import json
import math
import re
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.message import Message

from clients import PNG
from cxr.v1 import chest_xray_pb2 as pb
from cxr_client import (
    Box,
    ColorMap,
    Explanation,
    ExplanationMethod,
    ExplanationSet,
    Health,
    ImageFormat,
    InputWarning,
    ModelDescription,
    Prediction,
    ProtocolError,
    Reliability,
    Timing,
    WarningCode,
    enums,
)
from images import png

JPEG = b"\xff\xd8\xff\xe0..."
MESSAGES = [
    (Prediction, pb.PredictResponse),
    (ExplanationSet, pb.ExplainResponse),
    (Health, pb.HealthResponse),
    (ModelDescription, pb.DescribeModelResponse),
]


def filled(message: Any) -> Any:
    """Give every field of a message, and of those inside it, a value of its own."""
    for number, field in enumerate(message.DESCRIPTOR.fields, start=1):
        if field.name in ("heatmap", "radiograph"):
            setattr(message, field.name, PNG)
        elif field.message_type and field.message_type.GetOptions().map_entry:
            getattr(message, field.name)["a/b"] = "c"
        elif field.type == FieldDescriptor.TYPE_MESSAGE:
            inner = getattr(message, field.name)
            inner = inner.add() if field.is_repeated else inner
            if field.message_type.file.package == "google.protobuf":
                inner.seconds, inner.nanos = number, 500_000
            else:
                filled(inner)
        else:
            value = {
                FieldDescriptor.TYPE_STRING: f"{field.name} {number}",
                FieldDescriptor.TYPE_BOOL: True,
                FieldDescriptor.TYPE_FLOAT: number + 0.25,
                FieldDescriptor.TYPE_BYTES: b"?",
            }.get(field.type, number if field.type != FieldDescriptor.TYPE_ENUM else 2)
            if field.is_repeated:
                getattr(message, field.name).extend([value] * 12)
            else:
                setattr(message, field.name, value)
    if isinstance(message, pb.EvidenceGrid):
        message.rows, message.columns = 3, 4
    return message


def converted(result: Any, message: Message) -> Any:
    name = type(message).__name__
    if name == "ExplainResponse":
        return result.of(message, "id", ())
    return result.of(message, "id")


@pytest.mark.parametrize(("result", "message"), MESSAGES)
def test_every_field_of_a_reply_arrives(result: Any, message: type[Message]) -> None:
    def compare(ours: Any, theirs: Any) -> None:
        for field in theirs.DESCRIPTOR.fields:
            value = getattr(theirs, field.name)
            name = field.name
            if name.endswith("_duration"):
                unit = "uptime_s" if name == "uptime_duration" else None
                mine = getattr(ours, unit or name.replace("_duration", "_ms"))
                scale = 1 if unit else 1000
                assert mine == pytest.approx((value.seconds + value.nanos / 1e9) * scale), name
                continue
            mine = getattr(ours, name)
            if isinstance(mine, datetime):
                assert mine == value.ToDatetime(tzinfo=UTC)
            elif field.message_type and field.message_type.GetOptions().map_entry:
                assert mine == dict(value)
            elif field.is_repeated:
                assert len(mine) == len(value), name
                for one, other in zip(mine, value, strict=True):
                    same(one, other, name)
            else:
                same(mine, value, name)

    def same(mine: Any, theirs: Any, name: str) -> None:
        if isinstance(theirs, Message):
            compare(mine, theirs)
        elif isinstance(mine, enums.ContractEnum):
            assert mine.number == theirs, name
        else:
            assert mine == theirs, name

    reply = filled(message())
    compare(converted(result, reply), reply)


@pytest.mark.parametrize(("result", "message"), MESSAGES)
def test_results_cannot_be_changed(result: Any, message: type[Message]) -> None:
    converted_result = converted(result, filled(message()))
    with pytest.raises(dataclasses.FrozenInstanceError):
        converted_result.request_id = "other"
    assert not hasattr(converted_result, "__dict__")


def twin_and_values(name: str) -> tuple[Any, list[Any]]:
    """Return an enum and the values of the contract that it has: UNSPECIFIED not in all."""
    twin = getattr(enums, name)
    values = pb.DESCRIPTOR.enum_types_by_name[name].values
    return twin, [each for each in values if each.number or "UNSPECIFIED" in twin.__members__]


@pytest.mark.parametrize("name", sorted(pb.DESCRIPTOR.enum_types_by_name))
def test_every_enum_of_the_contract_has_its_twin(name: str) -> None:
    twin, values = twin_and_values(name)
    assert [member.number for member in twin] == [value.number for value in values]
    for value in values:
        assert value.name.endswith("_" + twin.of(value.number).name)


@pytest.mark.parametrize(
    "name", ["RenderKind", "RenderFrame", "ColorMap", "RenderFormat", "HeatScale"]
)
def test_unspecified_is_no_choice_of_a_caller(name: str) -> None:
    twin = getattr(enums, name)
    assert [member.value for member in twin] == twin.choices()
    with pytest.raises(ValueError, match="'UNSPECIFIED' is not one of"):
        twin("UNSPECIFIED")


def test_a_value_newer_than_the_client_is_unspecified() -> None:
    assert WarningCode.of(99) is WarningCode.UNSPECIFIED
    assert InputWarning.of(pb.Warning(code=99, message="new")).message == "new"  # type: ignore[arg-type]


@pytest.mark.parametrize("name", sorted(pb.DESCRIPTOR.enum_types_by_name))
def test_every_enum_value_is_spelled_as_in_the_contract(name: str) -> None:
    twin, values = twin_and_values(name)
    prefix = re.sub(r"(?<=[a-z])(?=[A-Z])", "_", name).upper() + "_"
    for value in values:
        member = twin.of(value.number)
        spelled = value.name.removeprefix(prefix)
        assert str(member) == member.value == json.loads(json.dumps(member)) == spelled
        assert twin(spelled) is twin(spelled.lower().replace("_", "-")) is member


def test_a_value_that_an_enum_lacks_is_refused_with_its_choices() -> None:
    assert ExplanationMethod("grad-cam-plus-plus") is ExplanationMethod.GRAD_CAM_PLUS_PLUS
    assert f"{ImageFormat.PNG}, {Reliability.WEAK}" == "PNG, WEAK"
    with pytest.raises(ValueError, match="'hot' is not one of INFERNO, VIRIDIS, JET, GRAY"):
        ColorMap("hot")


def test_a_stage_that_did_not_run_has_no_time() -> None:
    timing = Timing.of(pb.Timing(evidence_cached=True))
    assert timing == Timing(None, None, None, None, evidence_cached=True)


def test_unset_fields_are_none() -> None:
    assert Health.of(pb.HealthResponse(status=1), "id").model is None
    response = pb.DescribeModelResponse(model=pb.Model(), findings=[pb.FindingDescription()])
    assert ModelDescription.of(response, "id").create_time is None
    grid = pb.EvidenceGrid(rows=1, columns=1, values=[-1])
    nothing = Explanation.of(pb.Explanation(evidence=grid, no_positive_evidence=True))
    assert nothing.peak is None
    assert nothing.regions == ()


@pytest.mark.parametrize(
    "explanation",
    [
        pb.Explanation(evidence=pb.EvidenceGrid(rows=2, columns=2, values=[1, 2, 3])),
        pb.Explanation(evidence=pb.EvidenceGrid()),
        pb.Explanation(evidence=pb.EvidenceGrid(rows=1, columns=1, values=[1]), heatmap=b"GIF89a"),
    ],
    ids=["missing values", "no grid", "neither PNG nor JPEG"],
)
def test_an_inconsistent_explanation_is_a_protocol_error(explanation: pb.Explanation) -> None:
    with pytest.raises(ProtocolError):
        Explanation.of(explanation)


def test_a_radiograph_that_is_no_picture_is_a_protocol_error() -> None:
    response = filled(pb.ExplainResponse())
    response.radiograph = b"GIF89a"
    with pytest.raises(ProtocolError, match="the radiograph in the reply"):
        ExplanationSet.of(response, "id", ())


def test_explanations_of_other_findings_are_a_protocol_error() -> None:
    response = filled(pb.ExplainResponse())
    label = response.explanations[0].finding.label
    assert ExplanationSet.of(response, "id", [label]).explanations[0].finding.label == label
    with pytest.raises(ProtocolError, match="other findings"):
        ExplanationSet.of(response, "id", ["Mass"])


def test_the_grid_becomes_an_array_row_by_row() -> None:
    explanation = filled(pb.Explanation())
    explanation.evidence.CopyFrom(pb.EvidenceGrid(rows=2, columns=3, values=range(6)))
    grid = Explanation.of(explanation).evidence.to_numpy()
    assert grid.dtype == np.float32
    assert grid.tolist() == [[0, 1, 2], [3, 4, 5]]


def test_a_picture_is_saved_unchanged(tmp_path: Path) -> None:
    explanation = Explanation.of(filled(pb.Explanation()))
    path = explanation.save(str(tmp_path / "heat.png"))
    assert path == tmp_path / "heat.png"
    assert path.read_bytes() == PNG
    with pytest.raises(ValueError, match="no picture"):
        dataclasses.replace(explanation, heatmap=b"").save(path)


@pytest.mark.parametrize(
    ("heatmap", "name", "saved"),
    [
        (PNG, "heat.PNG", "heat.PNG"),
        (PNG, "film.v2", "film.v2.png"),
        (JPEG, "heat", "heat.jpg"),
        (JPEG, "heat.jpeg", "heat.jpeg"),
        (PNG, "heat.jpg", None),
        (JPEG, "heat.png", None),
    ],
)
def test_a_saved_picture_has_the_suffix_of_its_format(
    tmp_path: Path, heatmap: bytes, name: str, saved: str | None
) -> None:
    explanation = dataclasses.replace(Explanation.of(filled(pb.Explanation())), heatmap=heatmap)
    if saved is None:
        with pytest.raises(ValueError, match=f"the picture is a {explanation.heatmap_format}"):
            explanation.save(tmp_path / name)
        assert not list(tmp_path.iterdir())
    else:
        assert explanation.save(tmp_path / name) == tmp_path / saved
        assert (tmp_path / saved).read_bytes() == heatmap


def test_boxes_and_numbers_are_plain_python() -> None:
    prediction = Prediction.of(filled(pb.PredictResponse()), "id")
    assert isinstance(prediction.image_info.crop_box, Box)
    assert math.isclose(prediction.findings[0].score, 3.25)
    assert isinstance(prediction.timing.decode_ms, float)


def test_importing_the_client_loads_no_heavy_library() -> None:
    code = (
        "import json, sys, cxr_client, cxr_client.cli;"
        "print(json.dumps(sorted({name.partition('.')[0] for name in sys.modules})))"
    )
    loaded = json.loads(subprocess.check_output([sys.executable, "-c", code], text=True))
    heavy = {"numpy", "torch", "PIL", "cxr_server", "pandas", "scipy", "rich", "click", "openvino"}
    assert not heavy & set(loaded)
    assert {"cxr_client", "cxr", "grpc"} <= set(loaded)


def labelled(*labels: str) -> Prediction:
    reply = pb.PredictResponse(model=pb.Model(name="m"))
    reply.findings.extend(pb.Finding(label=label, class_index=n) for n, label in enumerate(labels))
    return Prediction.of(reply, "id")


def test_a_finding_is_looked_up_by_its_label() -> None:
    prediction = labelled("Effusion", "Lung Opacity")
    assert prediction["Lung Opacity"] is prediction.findings[1]
    assert "Effusion" in prediction
    assert "Mass" not in prediction
    assert [each.label for each in prediction] == ["Effusion", "Lung Opacity"]


@pytest.mark.parametrize(
    ("label", "message"),
    [
        ("Mass", "no 'Mass': it has the 2 with the highest scores; raise top_k for more"),
        ("effusion", "did you mean 'Effusion'?"),
        ("Lung_Opacity", "did you mean 'Lung Opacity'?"),
        ("Efusion", "did you mean 'Effusion'?"),
        (0, "no 0: it has the 2 with the highest scores"),
    ],
)
def test_a_finding_that_the_answer_lacks_is_a_key_error_that_says_so(
    label: Any, message: str
) -> None:
    with pytest.raises(KeyError, match=re.escape(message)):
        labelled("Effusion", "Lung Opacity")[label]


def explained() -> ExplanationSet:
    reply = filled(pb.ExplainResponse())
    reply.explanations[0].finding.label = "Effusion"
    reply.findings.extend([pb.Finding(label="Effusion"), pb.Finding(label="Mass")])
    return ExplanationSet.of(reply, "id", ["Effusion"])


def test_an_explanation_is_looked_up_by_its_label() -> None:
    explanations = explained()
    assert explanations["Effusion"] is explanations.explanations[0]
    assert "Effusion" in explanations
    assert list(explanations) == list(explanations.explanations)
    for label, message in {
        "Mass": "'Mass' is not explained in this answer: name it in labels",
        "mass": "did you mean 'Mass'?",
        "Hernia": "the model has no such finding",
    }.items():
        with pytest.raises(KeyError, match=re.escape(message)):
            explanations[label]


def test_no_representation_prints_a_picture() -> None:
    explanation = dataclasses.replace(explained().explanations[0], heatmap=PNG + bytes(58_047))
    explanations = dataclasses.replace(
        explained(), explanations=(explanation,), radiograph=PNG + bytes(2_000_000)
    )
    assert "radiograph=<PNG, 2000008 bytes>" in repr(explanations)
    assert "radiograph=None" in repr(dataclasses.replace(explanations, radiograph=b""))
    for shown in (repr(explanation), str(explanation), f"{explanations}"):
        assert "heatmap=<PNG, 58055 bytes>" in shown
        assert "\\x89" not in shown
        assert len(shown) < 3_000
    assert "heatmap=<JPEG, 7 bytes>" in repr(dataclasses.replace(explanation, heatmap=JPEG))
    assert "heatmap=None" in repr(dataclasses.replace(explanation, heatmap=b""))


def test_a_result_becomes_json_without_pictures() -> None:
    for result, message in MESSAGES:
        fields = converted(result, filled(message())).to_dict()
        assert json.loads(json.dumps(fields)) == fields
        assert fields["request_id"]
    fields = explained().to_dict()
    assert fields["explanations"][0]["finding"]["label"] == "Effusion"
    assert "heatmap" not in fields["explanations"][0]
    assert "radiograph" not in fields


def test_a_notebook_and_pillow_show_the_picture() -> None:
    picture = png(np.zeros((3, 5), np.uint8))
    explanation = dataclasses.replace(explained().explanations[0], heatmap=picture)
    assert explanation._repr_png_() == picture
    assert explanation._repr_jpeg_() is None
    assert explanation.image().size == (5, 3)
    as_jpeg = dataclasses.replace(explanation, heatmap=JPEG)
    assert (as_jpeg._repr_png_(), as_jpeg._repr_jpeg_()) == (None, JPEG)
    nothing = dataclasses.replace(explanation, heatmap=b"")
    assert (nothing._repr_png_(), nothing._repr_jpeg_()) == (None, None)
    with pytest.raises(ValueError, match="no picture"):
        nothing.image()
