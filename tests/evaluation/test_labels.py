"""Label files written by hand after their documentation: what is found, and what is not."""

from pathlib import Path

import numpy as np
import pytest

from cxr_client.evaluation.cohort import join
from cxr_client.evaluation.labels.label_set import Choices, LabelError, LabelSet
from cxr_client.evaluation.labels.registry import FORMATS
from cxr_client.evaluation.scores import read_scores
from cxr_client.evaluation.training_sets import overlap
from cxr_client.runs import Run
from simulated_runs import header, image, write_run

CHEXPERT = (
    "Atelectasis,Cardiomegaly,Consolidation,Edema,Enlarged Cardiomediastinum,Fracture,Lung Lesion,"
    "Lung Opacity,No Finding,Pleural Effusion,Pleural Other,Pneumonia,Pneumothorax,Support Devices"
)


def read(form: str, path: Path, text: str, **choices: object) -> LabelSet:
    path.write_text(text)
    return FORMATS[form](path, Choices(**choices))  # type: ignore[arg-type]


def test_mimic_is_read_by_study(tmp_path: Path) -> None:
    text = (
        f"subject_id,study_id,{CHEXPERT}\n"
        "10000032,50414267,,,,,,,,,1.0,,,,,\n"
        "10000764,57375967,,,1.0,,,,,,,-1.0,,-1.0,0.0,\n"
    )
    labels = read("mimic", tmp_path / "mimic.csv", text, blank="ignore")
    assert labels.unit == "study"
    assert labels.keys == ("50414267", "57375967")
    file = "files/p10/p10000764/s57375967/096052b7-d256dc40.jpg"
    assert labels.key_of(file) == "57375967"
    assert labels.key_of("57375967.png") == ""
    np.testing.assert_array_equal(labels.findings["Consolidation"], [0, 1])
    np.testing.assert_array_equal(labels.findings["Effusion"], [0, np.nan])
    assert labels.patients is not None
    assert labels.patients.tolist() == ["10000032", "10000764"]


def test_mimics_metadata_makes_images_of_studies_and_tells_their_views(tmp_path: Path) -> None:
    text = f"subject_id,study_id,{CHEXPERT}\n1,50414267,1.0{',' * 13}\n2,57375967,{',' * 13}\n"
    metadata = tmp_path / "mimic-cxr-2.0.0-metadata.csv"
    rows = ["a,1,50414267,PA", "b,1,50414267,LATERAL", "c,2,57375967,AP", "d,3,99999999,PA"]
    metadata.write_text("\n".join(["dicom_id,subject_id,study_id,ViewPosition", *rows]) + "\n")
    labels = read("mimic", tmp_path / "m.csv", text, metadata=metadata)
    assert (labels.unit, labels.keys) == ("image", ("a", "c"))
    assert labels.key_of("files/p10/p1/s50414267/a.jpg") == "a"
    np.testing.assert_array_equal(labels.findings["Atelectasis"], [1, 0])
    assert labels.columns["View"].tolist() == ["PA", "AP"]
    assert labels.patients is not None
    assert labels.patients.tolist() == ["1", "2"]
    assert labels.left_out == {"lateral image": 1, "image of a study without labels": 1}
    kept = read("mimic", tmp_path / "m.csv", text, metadata=metadata, laterals="keep")
    assert kept.keys == ("a", "b", "c")


def test_chexperts_test_set_has_lateral_images_by_their_names(tmp_path: Path) -> None:
    rows = "".join(
        f"test/patient1/study1/view{n}_{view}.jpg{',0' * 14}\n"
        for n, view in ((1, "frontal"), (2, "lateral"))
    )
    labels = read("chexpert", tmp_path / "test.csv", f"Path,{CHEXPERT}\n{rows}")
    assert labels.keys == ("patient1/study1/view1_frontal",)
    for folder in ("/data/CheXpert/val", "valid"):
        assert labels.key_of(f"{folder}/patient1/study1/view1_frontal.png") in labels.keys


@pytest.mark.parametrize(("kaggle", "cautions"), [(True, 1), (False, 0)])
def test_folders_are_classes_and_kaggles_are_children(
    tmp_path: Path, kaggle: bool, cautions: int
) -> None:
    sick = "PNEUMONIA" if kaggle else "effusion"
    for name in ("NORMAL/IM-0115-0001.jpeg", f"{sick}/person1_virus_6.jpeg"):
        file = tmp_path / "test" / name
        file.parent.mkdir(parents=True)
        file.touch()
    labels = FORMATS["folders"](tmp_path, Choices())
    [(finding, values)] = labels.findings.items()
    assert finding == sick
    np.testing.assert_array_equal(values, [0, 1])
    assert labels.key_of(f"/elsewhere/test/{sick}/person1_virus_6.png") == labels.keys[1]
    assert labels.patients is not None
    assert labels.patients.tolist() == ["IM-0115", "person1"]
    assert sum("children" in caution for caution in labels.cautions) == cautions


@pytest.mark.parametrize("finding", ["TB", "Tb", "COVID-19"])
def test_a_folder_is_the_finding_that_the_model_calls_so_in_any_letters(
    tmp_path: Path, finding: str
) -> None:
    films = tmp_path / "films"
    files = ["normal/1.png", f"{finding.upper()}/2.png", f"test/{finding.lower()}/3.png"]
    for name in files:
        (films / name).parent.mkdir(parents=True)
        (films / name).touch()
    labels = FORMATS["folders"](films, Choices())
    rows = [image(name, {finding: 0.5}) for name in files]
    run = Run.read(write_run(tmp_path / "run.jsonl", header([finding]), rows))
    cohort = join(read_scores(run), labels)
    assert {name: values.tolist() for name, values in cohort.labels.items()} == {finding: [0, 1, 1]}


def test_a_blank_in_a_table_is_unknown_unless_it_is_said_to_be_negative(tmp_path: Path) -> None:
    text = "file,Mass,lung opacity\na/1.dcm,,yes\n2.png,-1,no\n3,1,0\n"
    path = tmp_path / "t.csv"
    labels = read("csv", path, text)
    assert labels.keys == ("a/1", "2", "3")
    np.testing.assert_array_equal(labels.findings["Mass"], [np.nan, np.nan, 1])
    np.testing.assert_array_equal(labels.findings["Lung Opacity"], [1, 0, 0])
    negative = read("csv", path, text, blank="negative", uncertain="positive")
    np.testing.assert_array_equal(negative.findings["Mass"], [0, 1, 1])
    assert negative.choices != labels.choices


def test_columns_that_are_mapped_to_one_finding_are_read_as_any_of_them(tmp_path: Path) -> None:
    text = "file,Bacterial,Viral,Pneumonia\n1,1,0,0\n2,0,0,1\n3,0,,0\n4,-1,1,0\n5,0,-1,1\n"
    mapped = {"Bacterial": "Pneumonia", "Viral": "Pneumonia"}
    labels = read("csv", tmp_path / "t.csv", text, map=mapped)
    np.testing.assert_array_equal(labels.findings["Pneumonia"], [1, 0, np.nan, 1, np.nan])
    assert any("any of the columns Bacterial and Viral" in each for each in labels.choices)
    single = read("csv", tmp_path / "t.csv", text, map={"Viral": "Pneumonia"})
    np.testing.assert_array_equal(single.findings["Pneumonia"], [0, 0, np.nan, 1, np.nan])
    assert "The column Viral stands for Pneumonia." in single.choices


def test_readers_of_vindr_are_counted_by_image(tmp_path: Path) -> None:
    text = (
        "image_id,class_name,rad_id\n"
        "a,Pneumothorax,R1\na,Pneumothorax,R1\na,No finding,R2\na,No finding,R3\n"
        "b,Nodule/Mass,R1\nb,Nodule/Mass,R2\nb,No finding,R3\n"
    )
    path = tmp_path / "train.csv"
    majority, every = (read("vindr", path, text, readers=each) for each in ("majority", "any"))
    np.testing.assert_array_equal(majority.findings["Pneumothorax"], [0, 0])
    np.testing.assert_array_equal(every.findings["Pneumothorax"], [1, 0])
    for finding in ("Nodule", "Mass"):
        np.testing.assert_array_equal(majority.findings[finding], [0, 1])


@pytest.mark.parametrize(
    ("form", "text", "words"),
    [
        ("csv", "", "not a CSV table"),
        ("csv", "a,b\n1,2\n", "no column has the name of a finding"),
        ("csv", "a,Mass\n1,2\n", 'the column Mass holds "2"'),
        ("csv", "a,Mass,Mass\n1,1,1\n", "two columns have the same name"),
        ("csv", "a,Mass\n1,1,1\n", "line 2"),
        ("csv", "a,Lung Opacity,lung_opacity\n1,1,0\n", "both have the name of Lung Opacity"),
        ("csv", "a,\ud800\n", "cannot read"),
        ("rsna", "patientId,Target\nx,0\nx,1\n", 'the Target "1"'),
        ("siim", "ImageId, EncodedPixels\nx,-1\nx,1 2\n", "both a mask and -1"),
        ("nih", "Image Index,Finding Labels,Patient ID\n1.png\n", "too few fields"),
    ],
)
def test_damaged_files_end_in_a_sentence(tmp_path: Path, form: str, text: str, words: str) -> None:
    path = tmp_path / "labels.csv"
    path.write_bytes(text.encode("utf-8", "surrogatepass"))
    with pytest.raises(LabelError, match=words):
        FORMATS[form](path, Choices())


def test_compressed_files_that_are_none_are_refused(tmp_path: Path) -> None:
    for name in ("labels.csv.gz", "labels.zip", "absent.csv"):
        path = tmp_path / name
        if name != "absent.csv":
            path.write_bytes(b"image,Mass\n1,1\n")
        with pytest.raises(LabelError, match="cannot read"):
            FORMATS["csv"](path, Choices())


def test_a_data_set_that_the_model_was_trained_on_is_named() -> None:
    assert "NIH" in str(overlap("densenet121-res224-all", ("siim", "nih")))
    assert "RSNA" in str(overlap("densenet121-res224-rsna", ("rsna", "nih")))
    for datasets in (("nih",), ("siim", "nih")):  # RSNA's images are NIH's
        assert "NIH" in str(overlap("densenet121-res224-rsna", datasets))
    assert overlap("densenet121-res224-all", ("vindr",)) is None
    assert overlap("phantom", ("nih",)) is None
