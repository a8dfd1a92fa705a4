"""Compose files and Dockerfiles, as far as they can be checked without an engine."""

import shutil
import subprocess
from pathlib import Path

import pytest

from operations.tools import program

pytestmark = pytest.mark.operations

ROOT = Path(__file__).parents[2]
COMPOSE = ROOT / "docker-compose.yml"


def follows_the_schema(*files: Path) -> "subprocess.CompletedProcess[str]":
    words = [program("check-jsonschema"), "--builtin-schema", "vendor.compose-spec", *files]
    return subprocess.run(words, capture_output=True, text=True, timeout=60)


def test_the_compose_files_follow_the_specification(tmp_path: Path) -> None:
    done = follows_the_schema(COMPOSE, ROOT / "deploy" / "orthanc" / "docker-compose.yml")
    assert done.returncode == 0, done.stdout
    wrong = tmp_path / "docker-compose.yml"
    wrong.write_text(COMPOSE.read_text().replace("mem_limit", "memory_limit"))
    done = follows_the_schema(wrong)
    assert done.returncode == 1
    assert "'memory_limit' was unexpected" in done.stdout


def test_prometheus_accepts_its_configuration_with_the_alerts(tmp_path: Path) -> None:
    shutil.copy(ROOT / "deploy" / "compose" / "prometheus.yml", tmp_path)
    shutil.copy(ROOT / "deploy" / "prometheus" / "rules.yml", tmp_path)
    words = [program("promtool"), "check", "config", tmp_path / "prometheus.yml"]
    done = subprocess.run(words, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "rules found" in done.stdout


@pytest.mark.parametrize("name", ["Dockerfile", "deploy/orthanc/Dockerfile"])
def test_a_dockerfile_passes_hadolint(name: str) -> None:
    words = [program("hadolint"), "--failure-threshold", "style", ROOT / name]
    done = subprocess.run(words, capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stdout) == (0, "")
