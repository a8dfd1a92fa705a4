"""`models`, `doctor`, `token` and `phantom-samples`, as an operator meets them."""

import hashlib
import json
import shutil
import socket
from importlib.metadata import PackageNotFoundError
from pathlib import Path

import pytest

from cxr_server.__main__ import main
from cxr_server.bundles.load import Bundle
from cxr_server.bundles.store import SAMPLES_PATH
from cxr_server.commands import doctor
from cxr_server.convert.catalog import CATALOG
from cxr_server.inference.engines.registry import ENGINES


@pytest.fixture
def home(phantom_bundle: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("CXR_BUNDLE_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("CXR_CACHE_DIR", str(tmp_path / "cache"))
    shutil.copytree(phantom_bundle.path, tmp_path / "home" / "mine")
    return tmp_path / "home"


def test_models_lists_what_is_prepared_and_what_can_be(home, capsys):
    assert main(["models", "--json"]) == 0
    listed = json.loads(capsys.readouterr().out)
    assert [bundle["name"] for bundle in listed["bundles"]] == ["phantom", "mine"]
    assert {entry["name"] for entry in listed["catalog"]} == set(CATALOG)
    assert main(["models"]) == 0
    printed = capsys.readouterr().out
    for word in ("mine", "6 findings", "densenet121-res224-all", "SHA-256 not known"):
        assert word in printed


def test_models_names_a_broken_bundle(home, capsys):
    (home / "mine" / "model.json").write_text("{}")
    assert main(["models"]) == 0
    assert "BROKEN" in capsys.readouterr().out


def checks(capsys: pytest.CaptureFixture[str]) -> dict[str, dict]:
    return {check["name"]: check for check in json.loads(capsys.readouterr().out)}


def test_doctor_passes_on_a_working_machine(home, capsys):
    assert main(["doctor", "--json", "--model", "mine", "--port", "0"]) == 0
    found = checks(capsys)
    assert found["bundle phantom"]["state"] == found["bundle mine"]["state"] == "ok"
    assert found["engine openvino"]["state"] == "ok"
    assert "ms an image" in found["engine openvino"]["detail"]
    for package in ("numpy", "imagecodecs", "msgspec", "grpcio"):
        assert found[package]["state"] == "ok"
    assert {"python", "cores", "memory", "port 0", "engine torch"} <= set(found)


@pytest.mark.torch
def test_doctor_runs_every_engine_that_is_installed(home, capsys):
    assert main(["doctor", "--json", "--model", "mine", "--port", "0"]) == 0
    found = checks(capsys)
    for engine in ENGINES:
        assert found[f"engine {engine}"]["state"] == "ok"
        assert "ms an image" in found[f"engine {engine}"]["detail"]


def test_doctor_fails_without_a_required_package_and_notes_an_optional_one(
    home, capsys, monkeypatch
):
    def no_version(name: str) -> str:
        raise PackageNotFoundError(name)

    monkeypatch.setattr(doctor, "version", no_version)
    assert main(["doctor", "--json", "--port", "0"]) == 1
    found = checks(capsys)
    assert (found["numpy"]["state"], found["torch"]["state"]) == ("fail", "note")


def test_doctor_fails_on_a_changed_bundle_and_names_the_file(home, capsys):
    path = home / "mine" / "weights.safetensors"
    path.write_bytes(path.read_bytes()[:-1] + b"\xff")
    assert main(["doctor", "--port", "0"]) == 1
    printed = capsys.readouterr().out
    assert "fail bundle mine: weights.safetensors" in printed
    assert "ok   bundle phantom" in printed


def test_doctor_fails_when_the_model_is_not_there(home, capsys):
    assert main(["doctor", "--json", "--model", "missing"]) == 1
    assert "cxr-server prepare missing" in checks(capsys)["inference"]["detail"]


def test_doctor_says_why_an_engine_is_not_there(home, capsys, monkeypatch):
    monkeypatch.setattr("cxr_server.inference.engines.registry.find_spec", lambda name: None)
    assert main(["doctor", "--json"]) == 1
    found = checks(capsys)
    assert "pip install openvino" in found["engine openvino"]["detail"]
    assert "./server[torch]" in found["engine torch"]["detail"]


def test_doctor_notes_a_port_that_is_taken(home, capsys):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        assert main(["doctor", "--json", "--port", str(port)]) == 0
    assert checks(capsys)[f"port {port}"]["state"] == "note"


def test_phantom_samples_are_copied_and_their_paths_printed(tmp_path, capsys):
    folder = tmp_path / "new" / "phantoms"
    assert main(["phantom-samples", "--output", str(folder)]) == 0
    printed = [Path(line) for line in capsys.readouterr().out.splitlines()]
    assert sorted(folder.iterdir()) == printed
    assert folder / "phantom-effusion-1.png" in printed
    for path in printed:
        assert path.read_bytes() == (SAMPLES_PATH / path.name).read_bytes()


def test_phantom_samples_report_a_folder_that_cannot_be_made(tmp_path, capsys):
    (tmp_path / "file").touch()
    assert main(["phantom-samples", "--output", str(tmp_path / "file")]) == 1
    assert capsys.readouterr().err.startswith("cxr-server: ")


def test_a_new_token_is_printed_apart_from_its_line_for_the_file(capsys):
    assert main(["token", "ward-3"]) == 0
    printed = capsys.readouterr()
    (token,) = printed.out.split()
    digest = hashlib.sha256(token.encode()).hexdigest()
    assert printed.err == f"add to the tokens file: ward-3:{digest}\n"


@pytest.mark.parametrize(
    "words",
    [["token", "two words"], ["serve", "--listen", "0.0.0.0:0"], ["serve", "--listen", ""]],
)
def test_a_setting_that_cannot_work_is_wrong_usage_in_one_line(words, capsys):
    assert main(words) == 2
    printed = capsys.readouterr()
    assert (printed.out, printed.err.count("\n")) == ("", 1)
    assert printed.err.startswith("cxr-server: ")
