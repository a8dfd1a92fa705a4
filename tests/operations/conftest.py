"""Helm, and what it makes of the chart."""

import os
import subprocess
from pathlib import Path

import pytest
import yaml

from operations.chart import CHART, COMBINATIONS, Helm, Manifests
from operations.tools import program


@pytest.fixture(scope="session")
def helm(tmp_path_factory: pytest.TempPathFactory) -> Helm:
    """Runs helm with a home of its own."""
    home = str(tmp_path_factory.mktemp("helm"))
    homes = {f"HELM_{kind}_HOME": home for kind in ("CACHE", "CONFIG", "DATA")}

    def helm(*words: str) -> "subprocess.CompletedProcess[str]":
        return subprocess.run(
            [program("helm"), *words],
            env={**os.environ, **homes},
            capture_output=True,
            text=True,
            timeout=60,
        )

    return helm


@pytest.fixture(scope="session")
def rendered(helm: Helm, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The manifest of each combination of values."""
    folder = tmp_path_factory.mktemp("rendered")
    paths = {}
    for name, values in COMBINATIONS.items():
        words = ("--set", values) if values else ()
        done = helm("template", "cxr-serve", str(CHART), *words)
        assert done.returncode == 0, f"{name}: {done.stderr}"
        paths[name] = folder / f"{name.replace(' ', '-')}.yaml"
        paths[name].write_text(done.stdout)
    return paths


@pytest.fixture(scope="session")
def manifests(rendered: dict[str, Path]) -> Manifests:
    """Resources by kind, of each combination; no kind comes twice."""
    found = {}
    for name, path in rendered.items():
        resources = [each for each in yaml.safe_load_all(path.read_text()) if each]
        found[name] = {each["kind"]: each for each in resources}
        assert len(found[name]) == len(resources), name
    return found
