"""`cxr-server prepare` as an operator meets it, on an installation without torch."""

from pathlib import Path

import numpy as np
import pytest

from cxr_server.__main__ import main
from cxr_server.bundles.load import load_bundle
from cxr_server.bundles.store import PHANTOM_PATH
from handmade_checkpoints import state_dict_file
from random_weights import LABELS, TINY, random_weights
from upstream import published_file, sha256, upstream

POINTS = np.array([0.3, np.nan, 0.4], np.float32)


@pytest.fixture
def homes(without_torch: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("CXR_BUNDLE_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("CXR_CACHE_DIR", str(tmp_path / "cache"))
    return tmp_path


def test_a_state_dict_with_labels_becomes_a_bundle(homes, capsys):
    file = homes / "mine.pt"
    state = random_weights()
    file.write_bytes(state_dict_file(state))
    labels = "Cardiomegaly, Effusion, Mass"
    assert main(["prepare", "mine", "--from", str(file), "--labels", labels]) == 0
    printed = capsys.readouterr().out
    for part in ("SHA-256", "local-file", "3 findings", "0.5 is assumed", "openvino and numpy"):
        assert part in printed
    manifest = load_bundle(homes / "home" / "mine").manifest
    assert (manifest.network, manifest.labels) == (TINY, LABELS)
    assert manifest.bias == tuple(state["classifier.bias"].tolist())
    assert list((homes / "cache").rglob("*.blob"))


def test_outputs_that_are_left_out_are_named_with_the_reason(homes, capsys):
    file = homes / "mine.pt"
    file.write_bytes(state_dict_file(random_weights() | {"op_threshs": POINTS}))
    assert main(["prepare", "mine", "--from", str(file), "--labels", "Implant,Drain,"]) == 0
    printed = capsys.readouterr().out
    assert "left out: output 1, Drain, which has the operating point nan" in printed
    assert "left out: output 2, unnamed, which has no finding" in printed
    assert load_bundle(homes / "home" / "mine").manifest.labels == ("Implant",)


@pytest.mark.parametrize(
    "words",
    [
        ["unheard-of"],
        ["densenet121-res224-nih"],
        ["densenet121-res224-nih", "--from", __file__, "--labels", "A,B"],
        ["mine", "--from", "missing.pt"],
        ["mine", "--from", __file__],
    ],
)
def test_the_command_fails_with_one_line(words, homes, capsys):
    assert main(["prepare", *words]) == 1
    printed = capsys.readouterr()
    assert printed.err.startswith("cxr-server: ")
    assert printed.err.count("\n") == 1


def test_a_name_that_is_not_in_the_catalogue_gets_the_nearest(homes, capsys):
    assert main(["prepare", "densenet121-res224-al"]) == 1
    assert "did you mean densenet121-res224-all?" in capsys.readouterr().err


def test_a_download_is_kept_until_the_bundle_is_written(homes, capsys):
    name = "densenet121-res224-nih"
    (homes / "home" / name).mkdir(parents=True)
    (homes / "home" / name / "notes.txt").touch()  # not a bundle: not replaced
    content = published_file()
    with upstream(content) as url:
        words = ["prepare", name, "--url", url, "--sha256", sha256(content)]
        assert main(words) == 1
    assert "is not a bundle" in capsys.readouterr().err
    (homes / "home" / name / "notes.txt").unlink()
    assert main(words) == 0  # without the network
    assert load_bundle(homes / "home" / name).manifest.name == name
    assert list((homes / "cache" / "downloads").iterdir()) == []


def test_another_address_does_not_weaken_the_hash(homes, capsys):
    content = published_file()
    words = ["prepare", "densenet121-res224-all", "--trust-download"]
    with upstream(content) as url:
        assert main([*words, "--url", url]) == 1
        assert main([*words, "--url", url, "--sha256", sha256(content)]) == 1
    hash_differs, hash_refused = capsys.readouterr().err.splitlines()
    assert "differs" in hash_differs
    assert "is not the known hash" in hash_refused
    assert not (homes / "home").exists()


def test_if_missing_prepares_what_is_missing_or_damaged_and_nothing_else(homes, capsys):
    file, weights = homes / "mine.pt", homes / "home" / "mine" / "weights.safetensors"
    file.write_bytes(published_file())
    words = ["prepare", "--if-missing", "mine", "--from", str(file)]
    assert main(words) == 0
    made = weights.stat().st_mtime_ns
    capsys.readouterr()
    assert main(words) == 0
    assert capsys.readouterr().out == f"{weights.parent} is prepared already\n"
    assert weights.stat().st_mtime_ns == made
    weights.write_bytes(b"damaged")
    assert main(words) == 0
    load_bundle(weights.parent)


def test_if_missing_finds_the_phantom_and_what_output_names(homes, tiny_bundle, capsys):
    assert main(["prepare", "--if-missing", "phantom"]) == 0
    words = ["--output", str(tiny_bundle), "--from", "missing.pt"]
    assert main(["prepare", "mine", "--if-missing", *words]) == 0
    assert main(["prepare", "mine", *words]) == 1
    assert capsys.readouterr().out.count("is prepared already") == 2
    assert not (homes / "home").exists()


def test_if_missing_takes_the_models_as_serve_does_and_prepares_each_once(
    homes, tiny_bundle, capsys
):
    models = f"phantom, canary=phantom,mine={tiny_bundle}"
    assert main(["prepare", "--if-missing", models]) == 0
    phantom, mine = capsys.readouterr().out.splitlines()
    assert phantom == f"{PHANTOM_PATH} is prepared already"
    assert mine == f"{tiny_bundle} is prepared already"
    assert main(["prepare", "--if-missing", f"canary=unheard-of,{tiny_bundle}"]) == 1
    assert "unheard-of" in capsys.readouterr().err
    assert main(["prepare", "--if-missing", models, "--url", "http://127.0.0.1:1/x"]) == 2
    assert "are for one model" in capsys.readouterr().err


def test_without_the_network_the_way_by_a_file_is_told(homes, capsys):
    words = ["prepare", "densenet121-res224-all", "--url", "http://127.0.0.1:1/weights.pt"]
    assert main(words) == 1
    said = capsys.readouterr().err
    assert "refused" in said
    assert "--from FILE" in said
