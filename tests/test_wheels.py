"""Wheels: what `pip install ./client ./server` installs, tried in empty environments."""

import json
import os
import shutil
import subprocess
import sys
import sysconfig
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
DISTRIBUTIONS = ("client", "server")
pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]


def run(*command: str | Path, cwd: Path) -> str:
    """Run a command without the variables that would make it find the checkout."""
    env = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    done = subprocess.run(command, cwd=cwd, env=env, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def wheels(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A wheel of each distribution, built from a copy without build products."""
    folder = tmp_path_factory.mktemp("wheels")
    ignored = shutil.ignore_patterns("build", "*.egg-info", "__pycache__")
    for name in DISTRIBUTIONS:
        source = folder / name
        shutil.copytree(ROOT / name, source, ignore=ignored, symlinks=False)
        build = (sys.executable, "-m", "pip", "wheel", "--no-deps", "--no-build-isolation")
        run(*build, "--quiet", "--wheel-dir", folder, source, cwd=folder)
    return {name: next(folder.glob(f"cxr_{name}-*.whl")) for name in DISTRIBUTIONS}


def environment(folder: Path, *wheels: Path) -> Path:
    """Return the interpreter of a new environment with these wheels alone; pip comes from here."""
    run(sys.executable, "-m", "venv", "--without-pip", folder, cwd=folder.parent)
    python = folder / "bin" / "python"
    install = (sys.executable, "-m", "pip", "--python", python, "install", "--no-deps", "--quiet")
    run(*install, *wheels, cwd=folder.parent)
    return python


def borrow_dependencies(python: Path) -> None:
    """Let the environment import the packages installed here, but not the editable checkout.

    A plain path in a .pth file is added to `sys.path`; the .pth files in that path, through which
    editable installs work, are not read.
    """
    code = "import sysconfig; print(sysconfig.get_path('purelib'))"
    site = Path(run(python, "-c", code, cwd=python.parent).strip())
    (site / "borrowed.pth").write_text(sysconfig.get_path("purelib") + "\n")


def test_the_client_wheel_works_with_nothing_but_its_dependencies(
    wheels: dict[str, Path], tmp_path: Path
) -> None:
    python = environment(tmp_path / "venv", wheels["client"])
    borrow_dependencies(python)
    code = "import cxr_client.testing; print(cxr_client.__file__)"
    imported = Path(run(python, "-c", code, cwd=tmp_path).strip())
    assert imported.is_relative_to(tmp_path / "venv")
    assert "cxr" in run(tmp_path / "venv" / "bin" / "cxr", "--version", cwd=tmp_path)


def test_the_server_wheel_serves_the_shipped_model(wheels: dict[str, Path], tmp_path: Path) -> None:
    python = environment(tmp_path / "venv", *wheels.values())
    borrow_dependencies(python)
    tools = python.parent
    printed = run(tools / "cxr-server", "phantom-samples", "--output", "phantoms", cwd=tmp_path)
    samples = [tmp_path / line for line in printed.splitlines()]
    assert samples
    server = subprocess.Popen(
        [tools / "cxr-server", "serve", "--listen", "127.0.0.1:0"],
        cwd=tmp_path,
        env={name: value for name, value in os.environ.items() if name != "PYTHONPATH"},
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    try:
        assert server.stdout
        address = json.loads(server.stdout.readline())["address"]
        predict = (tools / "cxr", "predict", "--server", address, "--top-k", "1", samples[0])
        assert "Cardiomegaly" in run(*predict, cwd=tmp_path)
        report = (tools / "cxr", "report", "--server", address, "phantoms")
        assert run(*report, cwd=tmp_path) == "report.html\n"
    finally:
        server.terminate()
        server.wait(30)
        if server.stdout:
            server.stdout.close()


@pytest.mark.parametrize("name", DISTRIBUTIONS)
def test_a_wheel_holds_types_and_licence_and_no_tests(wheels: dict[str, Path], name: str) -> None:
    files = zipfile.ZipFile(wheels[name]).namelist()
    assert f"cxr_{name}/py.typed" in files
    assert any(file.endswith("licenses/LICENSE") for file in files)
    assert not [file for file in files if "test_" in file]


@pytest.mark.parametrize("name", DISTRIBUTIONS)
def test_a_wheel_holds_every_file_of_the_package(wheels: dict[str, Path], name: str) -> None:
    files = set(zipfile.ZipFile(wheels[name]).namelist())
    listed = run("git", "ls-files", f"cxr_{name}", cwd=ROOT / name).split()
    assert listed
    assert set(listed) <= files


@pytest.mark.slow
def test_the_client_installs_from_the_index_into_an_empty_environment(
    wheels: dict[str, Path], tmp_path: Path
) -> None:
    run(sys.executable, "-m", "venv", tmp_path / "venv", cwd=tmp_path)
    python = tmp_path / "venv" / "bin" / "python"
    run(python, "-m", "pip", "install", "--quiet", wheels["client"], cwd=tmp_path)
    assert "no broken requirements" in run(python, "-m", "pip", "check", cwd=tmp_path).lower()
    run(python, "-c", "import cxr_client, cxr.v1.chest_xray_pb2_grpc", cwd=tmp_path)
