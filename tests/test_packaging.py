"""What an installed client pulls in, what the repository holds."""

import importlib.metadata
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from glob import glob
from pathlib import Path

import pytest
from packaging.requirements import Requirement

from cxr_server import settings
from cxr_server.bundles.store import PHANTOM_PATH, SAMPLES_PATH

ROOT = Path(__file__).parents[1]
MAX_FILE_BYTES = 2 << 20


def modules_after(code: str) -> set[str]:
    """Top-level modules loaded in a fresh interpreter after running the code."""
    code += "\nimport sys; print(*{name.split('.')[0] for name in sys.modules})"
    done = subprocess.run(
        [sys.executable, "-c", code], check=True, capture_output=True, text=True, timeout=50
    )
    return set(done.stdout.splitlines()[-1].split())


def test_importing_the_client_pulls_neither_torch_nor_numpy() -> None:
    modules = modules_after("import cxr_client, cxr_client.cli")
    assert "grpc" in modules
    assert modules.isdisjoint(
        {"torch", "numpy", "PIL", "pydicom", "openvino", "cxr_server", "opentelemetry"}
    )


def test_importing_the_server_pulls_no_torch() -> None:
    modules = modules_after("import cxr_server.__main__, cxr_server.app")
    assert "numpy" in modules
    assert modules.isdisjoint({"torch", "torchvision", "torchxrayvision", "pandas", "skimage"})


def test_numpy_is_imported_with_one_thread_by_serve_alone() -> None:
    """OpenBLAS reads the variable once, when numpy is imported."""
    code = """
import os, sys
os.environ.pop("OPENBLAS_NUM_THREADS", None)
seen = []
def audit(event, arguments):
    if event == "import" and arguments[0] == "numpy":
        seen.append(os.environ.get("OPENBLAS_NUM_THREADS"))
sys.addaudithook(audit)
import cxr_server.__main__
import cxr_server.commands.{}
print(seen[0])
"""
    for command, threads in (("serve", "1"), ("prepare", "None")):
        done = subprocess.run(
            [sys.executable, "-c", code.format(command)],
            check=True,
            capture_output=True,
            text=True,
        )
        assert done.stdout.strip() == threads


def test_drawing_phantoms_pulls_no_torch() -> None:
    modules = modules_after("import cxr_phantom.__main__, cxr_phantom.samples, cxr_phantom.dataset")
    assert "scipy" in modules
    assert modules.isdisjoint({"torch", "torchvision", "torchxrayvision", "pandas", "skimage"})


def requirements(distribution: str) -> list[str]:
    """Of our own, what the checkout declares: an installation of it may be older."""
    folder = distribution.removeprefix("cxr-")
    if not distribution.startswith("cxr-"):
        return importlib.metadata.requires(distribution) or []
    table = tomllib.loads((ROOT / folder / "pyproject.toml").read_text())["project"]
    lines = list(table["dependencies"])
    for extra, needs in table.get("optional-dependencies", {}).items():
        lines += [f'{need}; extra == "{extra}"' for need in needs]
    return lines


def needed_by(distribution: str, extras: tuple[str, ...] = ("",)) -> set[str]:
    """Every distribution that installing one brings, itself included."""
    found: set[str] = set()
    waiting = [distribution]
    while waiting:
        name = re.sub(r"[-_.]+", "-", waiting.pop()).lower()
        if name in found:
            continue
        found.add(name)
        for line in requirements(name):
            need = Requirement(line)
            if need.marker is None or any(need.marker.evaluate({"extra": e}) for e in extras):
                waiting.append(need.name)
        extras = ("",)
    return found


def test_installing_the_client_brings_grpc_and_protobuf_alone() -> None:
    assert needed_by("cxr-client") == {
        "cxr-client",
        "googleapis-common-protos",
        "grpcio",
        "protobuf",
        "typing-extensions",
    }


HEAVY = {"torch", "torchvision", "torchxrayvision", "grad-cam", "pandas", "scikit-image"}


def test_installing_the_server_brings_no_torch_unless_asked() -> None:
    assert needed_by("cxr-server").isdisjoint(HEAVY | {"scipy", "cxr-phantom"})


@pytest.mark.torch
def test_installing_the_torch_extra_brings_what_the_torch_engine_needs() -> None:
    assert needed_by("cxr-server", ("torch",)) >= HEAVY


def pins(name: str) -> dict[str, str]:
    """Version by distribution of a lock file."""
    return dict(re.findall(r"^([a-z0-9.-]+)==(\S+)", (ROOT / "locks" / name).read_text(), re.M))


def test_the_lock_for_serving_covers_the_server_and_nothing_heavy() -> None:
    needed = needed_by("cxr-server") - {"cxr-server", "cxr-client"}
    assert needed <= set(pins("serve.txt"))
    assert not {name for name in pins("serve.txt") if re.match(r"torch|nvidia|triton", name)}


def test_the_lock_for_serving_covers_the_page() -> None:
    needed = needed_by("cxr-client", ("viewer",)) - {"cxr-client"}
    assert {"starlette", "uvicorn"} <= needed <= set(pins("serve.txt"))


def test_the_locks_agree_and_every_pin_has_a_hash() -> None:
    serve, dev, cuda = pins("serve.txt"), pins("dev.txt"), pins("cuda.txt")
    assert serve.items() <= cuda.items() <= dev.items()
    for name in ("serve.txt", "cuda.txt", "dev.txt", "sbom.txt"):
        text = (ROOT / "locks" / name).read_text()
        assert len(re.findall(r"^\S+==.* \\\n    --hash=sha256:", text, re.M)) == len(
            re.findall(r"^\S+==", text, re.M)
        )
        assert "://" not in text


def test_the_grpc_packages_are_of_one_version() -> None:
    versions = {v for name, v in pins("dev.txt").items() if re.match(r"grpcio(-|$)", name)}
    assert len(versions) == 1


def test_client_server_phantom_and_image_have_one_version() -> None:
    def project(folder: str) -> dict[str, object]:
        table = tomllib.loads((ROOT / folder / "pyproject.toml").read_text())["project"]
        assert isinstance(table, dict)
        return table

    version = project("server")["version"]
    assert project("client")["version"] == project("phantom")["version"] == version
    assert f"cxr-client=={version}" in str(project("server")["dependencies"])
    assert f"cxr-server=={version}" in str(project("phantom")["dependencies"])
    assert f'image.version="{version}"' in (ROOT / "Dockerfile").read_text()
    assert importlib.metadata.version("cxr-server") == version


def tracked_files() -> Iterator[Path]:
    listed = subprocess.run(
        ["git", "-C", str(ROOT), "ls-files", "-z"], check=True, capture_output=True, text=True
    )
    return (ROOT / name for name in listed.stdout.split("\0") if name)


def test_no_tracked_file_is_large() -> None:
    if not (ROOT / ".git").exists():
        pytest.skip("not a git checkout")
    sizes = {path: path.stat().st_size for path in tracked_files() if path.is_file()}
    assert sizes
    assert {path: size for path, size in sizes.items() if size > MAX_FILE_BYTES} == {}


def test_the_shipped_bundle_and_samples_are_package_data() -> None:
    patterns = tomllib.loads((ROOT / "server" / "pyproject.toml").read_text())["tool"]["setuptools"]
    shipped: set[str] = set()
    for pattern in patterns["package-data"]["cxr_server.bundles"]:
        # As setuptools, unlike pathlib, "**" at the end also matches files.
        shipped |= set(glob(str(PHANTOM_PATH.parent / pattern), recursive=True))
    for folder in (PHANTOM_PATH, SAMPLES_PATH):
        files = {str(path) for path in folder.rglob("*") if path.is_file()}
        assert files
        assert files <= shipped


def test_the_shipped_samples_are_small() -> None:
    sizes = [path.stat().st_size for path in SAMPLES_PATH.iterdir()]
    assert max(sizes) < 300_000
    assert sum(sizes) < 1_500_000


def test_deployments_set_variables_that_exist() -> None:
    known = {settings.env_name(option.name) for option in settings.options()}
    known |= {"CXR_CA_FILE", "CXR_SERVER", "CXR_TOKEN"}  # clients read these
    chart = ("values.yaml", "templates/_helpers.tpl", "templates/deployment.yaml")
    for name in (
        "Dockerfile",
        "docker-compose.yml",
        "deploy/kubernetes.yaml",
        "deploy/orthanc/docker-compose.yml",
        *(f"deploy/helm/cxr-serve/{file}" for file in chart),
    ):
        used = set(re.findall(r"CXR_[A-Z_]+", (ROOT / name).read_text()))
        assert used
        assert used <= known, name
