"""`cxr-server prepare` as an operator meets it, on an installation without torch."""

from pathlib import Path

import pytest

from cxr_server.__main__ import main
from cxr_server.bundles.load import load_bundle
from handmade_checkpoints import state_dict_file
from random_weights import LABELS, TINY, random_weights


@pytest.fixture
def homes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
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
