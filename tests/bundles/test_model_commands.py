"""`models`, `doctor`, `token` and `phantom-samples`, as an operator meets them."""

import hashlib
import json
import os
import re
import shutil
import socket
import stat
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from importlib.metadata import PackageNotFoundError
from pathlib import Path
from types import SimpleNamespace

import grpc
import pytest
from grpc_health.v1 import health, health_pb2_grpc

from cxr_server.__main__ import main
from cxr_server.access import Access, append_token, new_token, read_tokens
from cxr_server.bundles.load import Bundle
from cxr_server.bundles.store import PHANTOM_PATH, SAMPLES_PATH
from cxr_server.commands import doctor
from cxr_server.convert.catalog import CATALOG
from cxr_server.inference.engines.registry import ENGINES
from cxr_server.preflight import PREFLIGHT, check_cache
from cxr_server.settings import parse

SERVE = ("serve", "--log-format", "console")
WITHOUT_TORCH = """
import sys
sys.modules["torch"] = None
from cxr_server.__main__ import main
sys.exit(main())
"""


@pytest.fixture(scope="module")
def compiled(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of compiled models, which the tests fill and read."""
    return tmp_path_factory.mktemp("compiled")


@pytest.fixture
def home(
    phantom_bundle: Bundle,
    compiled: Path,
    request: pytest.FixtureRequest,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> Path:
    """A home of bundles. Torch, which takes seconds to import, is hidden but from its tests."""
    monkeypatch.setenv("CXR_BUNDLE_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("CXR_CACHE_DIR", str(compiled))
    if not request.node.get_closest_marker("torch"):
        monkeypatch.setitem(sys.modules, "torch", None)
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


@pytest.mark.parametrize("name", ["model.json", "weights.safetensors", "openvino/model.bin"])
def test_models_verifies_every_file_and_names_a_broken_bundle(name, home, capsys):
    (home / "mine" / name).write_text("{}")
    (home / "whole").symlink_to(PHANTOM_PATH)
    assert main(["models"]) == 0
    lines = capsys.readouterr().out.splitlines()
    (broken,) = (line for line in lines if line.split()[0] == "mine")
    assert re.search(rf"BROKEN: {home / 'mine'}: {name}", broken)
    (whole,) = (line for line in lines if line.split()[0] == "whole")
    assert whole.endswith(str(home / "whole"))


def test_models_names_the_folder_of_each_bundle_in_columns(home, capsys):
    assert main(["models"]) == 0
    lines = [line for line in capsys.readouterr().out.splitlines() if line.startswith("  ")]
    assert "shipped with cxr-server" in lines[0]
    assert lines[1].endswith(str(home / "mine"))
    # Every second column begins where the others do, behind the longest name.
    starts = {len(line) - len(line[2:].partition(" ")[2].lstrip()) for line in lines}
    assert len(starts) == 1
    assert min(starts) > 2 + max(map(len, CATALOG))


def without_privileges() -> tuple[str, ...]:
    """Return the words before a command to which permissions apply, also if root runs it."""
    if os.geteuid():
        return ()
    return ("setpriv", "--bounding-set=-dac_override,-dac_read_search")


def with_locked(folder: Path, *words: str, mode: int = 0) -> subprocess.CompletedProcess[str]:
    """Run the command while the folder cannot be looked into, or has another mode."""
    folder.chmod(mode)
    done = subprocess.run(
        [*without_privileges(), sys.executable, "-c", WITHOUT_TORCH, *words],
        capture_output=True,
        text=True,
        timeout=100,
    )
    folder.chmod(0o700)
    assert "Traceback" not in done.stderr
    return done


@pytest.mark.slow
def test_a_folder_of_bundles_that_may_not_be_read_is_named(tmp_path):
    locked = tmp_path / "locked"
    locked.mkdir()
    done = with_locked(locked, "models", "--bundle-home", str(locked))
    assert (done.returncode, done.stderr) == (1, f"cxr-server: {locked}: Permission denied\n")
    assert "shipped with cxr-server" in done.stdout
    done = with_locked(locked, "doctor", "--bundle-home", str(locked), "--model", "x", *ANY_PORT)
    assert done.returncode == 1
    assert re.search(f"fail model: .*{locked}: Permission denied", done.stdout)


def test_a_bundle_that_may_not_be_read_is_named_as_broken(tmp_path):
    locked = tmp_path / "locked"
    locked.mkdir()
    done = with_locked(locked, "models", "--bundle-home", str(tmp_path))
    assert re.search(rf"locked +BROKEN: {locked}: Permission denied", done.stdout)


ANY_PORT = ("--listen", "127.0.0.1:0")


def checks(capsys: pytest.CaptureFixture[str], *, can_serve: bool) -> dict[str, dict]:
    printed = json.loads(capsys.readouterr().out)
    assert printed["can_serve"] is can_serve
    return {check["name"]: check for check in printed["checks"]}


@pytest.mark.slow
def test_doctor_passes_on_a_working_machine(home, capsys):
    assert main(["doctor", "--json", "--model", "mine", *ANY_PORT]) == 0
    found = checks(capsys, can_serve=True)
    assert found["bundle phantom"]["state"] == found["bundle mine"]["state"] == "ok"
    for engine in ("engine to serve with", "engine openvino"):
        assert found[engine]["state"] == "ok"
        assert "openvino on CPU in float32, started in" in found[engine]["detail"]
        assert "ms an image, scores equal to " in found[engine]["detail"]
        assert "ms an image" in found[engine]["detail"]
    for package in ("numpy", "imagecodecs", "msgspec", "grpcio"):
        assert found[package]["state"] == "ok"
    assert {"python", "cores", "memory", "engine torch", "settings"} <= set(found)
    assert {check.name for check in PREFLIGHT} <= set(found)
    assert main(["doctor", "--model", "mine", *ANY_PORT]) == 0
    assert capsys.readouterr().out.endswith("This machine can serve with these settings.\n")


@pytest.mark.torch
def test_doctor_runs_every_engine_that_is_installed(home, capsys):
    assert main(["doctor", "--json", "--model", "mine", *ANY_PORT]) == 0
    found = checks(capsys, can_serve=True)
    for engine in ENGINES:
        assert found[f"engine {engine}"]["state"] == "ok"
        assert "ms an image" in found[f"engine {engine}"]["detail"]


def test_doctor_fails_without_a_required_package_and_notes_an_optional_one(
    home, capsys, monkeypatch
):
    def no_version(name: str) -> str:
        raise PackageNotFoundError(name)

    monkeypatch.setattr(doctor, "version", no_version)
    assert main(["doctor", "--json", *ANY_PORT]) == 1
    found = checks(capsys, can_serve=False)
    assert (found["numpy"]["state"], found["torch"]["state"]) == ("fail", "note")


def test_doctor_fails_on_a_changed_bundle_and_names_the_file(home, capsys):
    path = home / "mine" / "weights.safetensors"
    path.write_bytes(path.read_bytes()[:-1] + b"\xff")
    assert main(["doctor", "--model", "mine", *ANY_PORT]) == 1
    printed = capsys.readouterr().out
    assert f"fail bundle mine: {home / 'mine'}: weights.safetensors" in printed
    assert "ok   bundle phantom" in printed
    assert printed.endswith("This machine cannot serve with these settings: bundle mine\n")
    assert main(["doctor", *ANY_PORT]) == 0  # it serves the phantom
    assert f"note bundle mine: {home / 'mine'}: weights.safetensors" in capsys.readouterr().out


def test_doctor_fails_when_the_model_is_not_there(home, capsys, monkeypatch):
    monkeypatch.setenv("CXR_MODEL", "missing")
    assert main(["doctor", "--json", *ANY_PORT]) == 1
    found = checks(capsys, can_serve=False)
    assert found["model"]["state"] == "fail"
    assert "CXR_MODEL=missing: there is no bundle missing" in found["model"]["detail"]


def test_doctor_says_why_an_engine_is_not_there(home, capsys, monkeypatch):
    monkeypatch.setattr("cxr_server.inference.engines.registry.find_spec", lambda name: None)
    assert main(["doctor", "--json", *ANY_PORT]) == 1
    found = checks(capsys, can_serve=False)
    assert found["engine to serve with"]["state"] == "fail"
    assert "pip install openvino" in found["engine openvino"]["detail"]
    assert "./server[torch]" in found["engine torch"]["detail"]


def test_doctor_tries_the_engine_and_device_of_the_settings(home, capsys):
    assert main(["doctor", "--json", "--device", "gpu.7", *ANY_PORT]) == 1
    found = checks(capsys, can_serve=False)
    assert found["engine to serve with"]["state"] == "fail"
    assert "openvino does not start on GPU.7" in found["engine to serve with"]["detail"]
    assert found["engine openvino"]["state"] == "ok"


@pytest.mark.slow
def test_doctor_fails_where_serve_would(home, tmp_path, capsys, monkeypatch):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        assert main(["doctor", "--json", "--metrics-listen", address, *ANY_PORT]) == 1
    found = checks(capsys, can_serve=False)
    assert found["addresses"]["state"] == "fail"
    assert f"--metrics-listen {address}" in found["addresses"]["detail"]
    assert main(["doctor", "--json", "--tokens-file", str(tmp_path), *ANY_PORT]) == 1
    found = checks(capsys, can_serve=False)
    assert found["tokens file"]["detail"] == f"--tokens-file {tmp_path}: Is a directory"
    os.mkfifo(tmp_path / "pipe")
    words = ["--audit-file", str(tmp_path / "pipe"), "--model", "a=phantom", "--model", "a=mine"]
    assert main(["doctor", "--json", *words, *ANY_PORT]) == 1
    found = checks(capsys, can_serve=False)
    assert "is a named pipe" in found["audit file"]["detail"]
    assert "two models are called a" in found["model"]["detail"]
    monkeypatch.setenv("CXR_MAX_PIXEL", "9")
    assert main(["doctor", "--json", *ANY_PORT]) == 1
    found = checks(capsys, can_serve=False)
    assert "did you mean CXR_MAX_PIXELS?" in found["settings"]["detail"]


def test_doctor_notes_the_addresses_of_the_server_that_runs(home, phantom_server, capsys):
    port = phantom_server.address.rpartition(":")[2]
    words = ["doctor", "--json", "--insecure", "--listen", f"0.0.0.0:{port}"]
    assert main(words) == 0
    found = checks(capsys, can_serve=True)
    assert found["addresses"]["state"] == "note"
    assert f"127.0.0.1:{port} answers SERVING" in found["addresses"]["detail"]
    assert main([*words, "--metrics-listen", "192.0.2.1:9090"]) == 1
    found = checks(capsys, can_serve=False)
    assert "it is not an address of this machine" in found["addresses"]["detail"]


def test_doctor_fails_on_an_address_that_another_grpc_server_uses(home, capsys):
    other = grpc.server(ThreadPoolExecutor(1))
    health_pb2_grpc.add_HealthServicer_to_server(health.HealthServicer(), other)
    port = other.add_insecure_port("127.0.0.1:0")
    other.start()
    assert main(["doctor", "--json", "--listen", f"127.0.0.1:{port}"]) == 1
    found = checks(capsys, can_serve=False)
    assert "it is in use: stop what listens there" in found["addresses"]["detail"]
    other.stop(None).wait()


def test_doctor_tells_a_file_that_is_not_given_from_one_that_is_right(home, tmp_path, capsys):
    tokens = tmp_path / "tokens"
    assert main(["token", "ward-3", "--file", str(tokens)]) == 0
    capsys.readouterr()
    assert main(["doctor", "--json", "--tokens-file", str(tokens), *ANY_PORT]) == 0
    found = checks(capsys, can_serve=True)
    assert found["tokens file"]["detail"] == "usable"
    assert found["TLS files"]["detail"] == "none given"


def test_doctor_notes_what_serve_would_warn_of(home, capsys):
    assert main(["doctor", "--json", "--cache-dir", "/proc/nosuch", *ANY_PORT]) == 0
    found = checks(capsys, can_serve=True)
    assert found["cache folder"]["state"] == "note"
    assert "--cache-dir /proc/nosuch cannot be written to" in found["cache folder"]["detail"]


@pytest.mark.slow
def test_doctor_notes_a_cache_folder_that_is_read_only(tmp_path):
    folder = tmp_path / "cache"
    folder.mkdir()
    words = ("doctor", "--cache-dir", str(folder), *ANY_PORT)
    done = with_locked(folder, *words, mode=0o500)
    assert done.returncode == 0
    assert f"note cache folder: --cache-dir {folder} cannot be written to" in done.stdout


def test_a_cache_folder_that_is_nearly_full_is_a_warning(tmp_path, monkeypatch):
    monkeypatch.setattr("shutil.disk_usage", lambda _: SimpleNamespace(free=5 << 20))
    assert list(check_cache(parse(["--cache-dir", str(tmp_path)], {}))) == [
        f"--cache-dir {tmp_path} has 5 MiB free, so perhaps models are compiled at every start"
    ]


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
    assert printed.err.splitlines()[1:] == [f"ward-3:{digest}"]


def test_what_is_printed_for_the_tokens_file_can_be_redirected_to_it(capsys):
    tokens, file = [], ""
    for name in ("ward-3", "ward-4"):
        assert main(["token", name]) == 0
        printed = capsys.readouterr()
        tokens.append(printed.out.strip())
        file += printed.err
    assert list(read_tokens(file.encode()).values()) == ["ward-3", "ward-4"]


def test_a_token_is_appended_to_a_file_that_only_its_owner_can_read(tmp_path, capsys):
    file = tmp_path / "tokens"
    assert main(["token", "ward-3", "--file", str(file)]) == 0
    first = capsys.readouterr().out.strip()
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    file.write_text(file.read_text().rstrip("\n"))  # as some editors leave it
    assert main(["token", "ward-4", "--file", str(file)]) == 0
    second = capsys.readouterr().out.strip()
    access = Access(str(file))
    assert access.check(f"Bearer {first}") == "ward-3"
    assert access.check(f"Bearer {second}") == "ward-4"
    assert file.read_text().count("\n") == 2


def test_tokens_that_are_appended_at_once_are_all_kept(tmp_path):
    file = tmp_path / "tokens"
    lines = [new_token(f"ward-{number}")[1] for number in range(40)]
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(partial(append_token, str(file)), lines))
    assert sorted(file.read_text().splitlines()) == sorted(lines)


def test_no_token_is_appended_to_a_file_of_another_kind(tmp_path, capsys):
    file = tmp_path / "notes"
    file.write_text("not a token\n")
    assert main(["token", "ward-3", "--file", str(file)]) == 2
    assert f"{file}: line 1 is not name:sha256" in capsys.readouterr().err
    assert file.read_text() == "not a token\n"


def test_a_token_that_finds_no_room_leaves_the_file_as_it_was(tmp_path):
    file = tmp_path / "tokens"
    append_token(str(file), new_token("ward-3")[1])
    before = file.read_bytes()
    room = len(before) + 10  # for a part of the line
    command = [sys.executable, "-m", "cxr_server", "token", "ward-4", "--file", str(file)]
    done = subprocess.run(
        ["prlimit", f"--fsize={room}", *command], capture_output=True, text=True, timeout=100
    )
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith(f"cxr-server: {file}: ")
    assert file.read_bytes() == before


def test_no_token_is_appended_to_a_device(capsys):
    assert main(["token", "ward-3", "--file", "/dev/zero"]) == 2
    assert "/dev/zero is not a regular file" in capsys.readouterr().err


@pytest.mark.parametrize(
    "words",
    [["token", "two words"], [*SERVE, "--listen", "0.0.0.0:0"], [*SERVE, "--listen", ""]],
)
def test_a_setting_that_cannot_work_is_wrong_usage_in_one_line(words, capsys):
    assert main(words) == 2
    printed = capsys.readouterr()
    assert (printed.out, printed.err.count("\n")) == ("", 1)
    assert printed.err.startswith("cxr-server: ")
