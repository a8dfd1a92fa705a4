"""`cxr-server prepare` as an operator meets it, on an installation without torch."""

import hashlib
import threading
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
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


class Quiet(SimpleHTTPRequestHandler):
    def log_message(self, *_: object) -> None:
        pass


def test_a_name_that_is_not_in_the_catalogue_gets_the_nearest(homes, capsys):
    assert main(["prepare", "densenet121-res224-al"]) == 1
    assert "did you mean densenet121-res224-all?" in capsys.readouterr().err


def test_a_download_is_kept_until_the_bundle_is_written(homes, capsys):
    name, folder = "densenet121-res224-nih", homes / "upstream"
    folder.mkdir()
    file = folder / "weights.pt"
    file.write_bytes(state_dict_file(random_weights(class_count=18)))
    (homes / "home" / name).mkdir(parents=True)
    (homes / "home" / name / "notes.txt").touch()  # not a bundle: not replaced
    with ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=folder)) as server:
        threading.Thread(target=server.serve_forever, args=(0.05,)).start()
        url = f"http://127.0.0.1:{server.server_port}/weights.pt"
        sha256 = hashlib.sha256(file.read_bytes()).hexdigest()
        words = ["prepare", name, "--url", url, "--sha256", sha256]
        assert main(words) == 1
        server.shutdown()
    assert "is not a bundle" in capsys.readouterr().err
    (homes / "home" / name / "notes.txt").unlink()
    assert main(words) == 0  # without the network
    assert load_bundle(homes / "home" / name).manifest.name == name
    assert list((homes / "cache" / "downloads").iterdir()) == []


def test_without_the_network_the_way_by_a_file_is_told(homes, capsys):
    words = ["prepare", "densenet121-res224-all", "--url", "http://127.0.0.1:1/weights.pt"]
    assert main(words) == 1
    said = capsys.readouterr().err
    assert "refused" in said
    assert "--from FILE" in said
