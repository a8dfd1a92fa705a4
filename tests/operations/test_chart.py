"""The Helm chart: valid whatever its values are, and strict about them."""

import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest
import yaml

from operations.chart import ALWAYS, CHART, COMBINATIONS, Helm
from operations.tools import program

pytestmark = pytest.mark.operations

ROOT = Path(__file__).parents[2]
# What a value must be answered with, in the message.
REFUSED = {
    "imaeg.tag=1": "additional properties 'imaeg' not allowed",
    "image.tagg=1": "additional properties 'tagg' not allowed",
    "image.digest=0000": "/image/digest",
    "replicas=two": "'/replicas': got string, want integer",
    "replicas=-1": "'/replicas': minimum",
    "rollingUpdate.maxSurge=0": "cannot both be 0",
    "rollingUpdate.maxUnavailable=half": "/rollingUpdate/maxUnavailable",
    "model.name=a/b": "/model/name",
    "resources.limits.memory=2GB": "/resources/limits/memory",
    "resources.limit.memory=2Gi": "additional properties 'limit' not allowed",
    "settings.CXR_ENGINE.x=1": "'/settings/CXR_ENGINE': got object",
    "settings.CXR_LISTEN=1": "settings.CXR_LISTEN: set listenHost instead",
    "settings.CXR_TLS_CERT=x": "settings.CXR_TLS_CERT: set tls.secretName instead",
    "settings.MAX_IN_FLIGHT=1": "settings.MAX_IN_FLIGHT: settings have the names",
    "tls.clientCA=true": "set tls.secretName",
    "tls.secretName=a,tls.clientCA=true,probes.healthPort=false": "leave it true",
    "bundles.claim.create=true,bundles.existingClaim=a": "not both",
    "model.name=mine,model.prepare=false": "would put mine into an emptyDir",
    "model.others={a=mine},model.prepare=false": "would put a=mine into an emptyDir",
    "model.others={a,a}": "/model/others",
    "model.others={phantom}": "two models are called phantom",
    "model.name=a=phantom,model.others={a=mine}": "two models are called a",
    "service.port=443": "set service.headless: false",
    "autoscaling.enabled=true,autoscaling.queueDepth=0": "set queueDepth or cpuPercent",
    "autoscaling.enabled=true,autoscaling.minReplicas=9": "minReplicas is above maxReplicas",
    "autoscaling.enabled=true,metrics.enabled=false": "set metrics.enabled",
    "metrics.enabled=false,metrics.serviceMonitor.enabled=true": "need metrics.enabled",
    "env[0].nam=x": "missing property 'name'",
}


def test_the_chart_passes_the_strict_lint(helm: Helm) -> None:
    done = helm("lint", "--strict", str(CHART))
    assert (done.returncode, "1 chart(s) linted, 0 chart(s) failed" in done.stdout) == (0, True)


def test_the_manifest_for_kubectl_is_what_the_chart_renders() -> None:
    done = subprocess.run(
        [ROOT / "scripts" / "manifest.sh"],
        env={**os.environ, "HELM": program("helm")},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    assert (ROOT / "deploy" / "kubernetes.yaml").read_text() == done.stdout, "run `make manifest`"


@pytest.mark.parametrize("version", ["1.28.0", "1.37.0"])
def test_every_combination_of_values_is_valid_kubernetes(
    rendered: dict[str, Path], version: str
) -> None:
    custom = {"the Prometheus operator", "all at once"}
    newest = {"TLS without the health port"}  # grpc.mode came with 1.37
    left_out = custom | (newest if version == "1.28.0" else set())
    paths = [path for name, path in rendered.items() if name not in left_out]
    done = subprocess.run(
        [program("kubernetes-validate"), "--strict", "--quiet", "-k", version, *paths],
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_the_validator_refuses_a_misspelt_field(tmp_path: Path) -> None:
    wrong = tmp_path / "wrong.yaml"
    text = (ROOT / "deploy" / "kubernetes.yaml").read_text()
    wrong.write_text(text.replace("readinessProbe", "readynessProbe"))
    done = subprocess.run(
        [program("kubernetes-validate"), "--strict", wrong], capture_output=True, text=True
    )
    assert done.returncode == 1
    assert "readynessProbe" in done.stdout + done.stderr


@pytest.mark.parametrize("values", REFUSED)
def test_values_that_cannot_work_are_refused_by_name(helm: Helm, values: str) -> None:
    done = helm("template", "cxr-serve", str(CHART), "--set", values)
    assert done.returncode != 0
    assert REFUSED[values] in done.stderr


def test_probes_over_tls_are_refused_before_kubernetes_1_37(helm: Helm) -> None:
    values = COMBINATIONS["TLS without the health port"]
    done = helm("template", "x", str(CHART), "--kube-version", "1.36.2", "--set", values)
    assert done.returncode != 0
    assert "probes over TLS need Kubernetes 1.37, and this is v1.36.2" in done.stderr


def test_the_manifest_is_a_base_for_kustomize(tmp_path: Path) -> None:
    shutil.copy(ROOT / "deploy" / "kubernetes.yaml", tmp_path)
    overlay = {"resources": ["kubernetes.yaml"], "namespace": "imaging", "namePrefix": "ward-"}
    images = [{"name": "cxr-serve", "newName": "registry.example.org/cxr", "newTag": "1.2.3"}]
    (tmp_path / "kustomization.yaml").write_text(yaml.safe_dump(overlay | {"images": images}))
    done = subprocess.run(
        [program("kubectl"), "kustomize", tmp_path], capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0, done.stderr
    made = list(yaml.safe_load_all(done.stdout))
    assert {each["kind"] for each in made} == ALWAYS
    assert {each["metadata"]["namespace"] for each in made} == {"imaging"}
    assert set(re.findall(r"image: (\S+)", done.stdout)) == {"registry.example.org/cxr:1.2.3"}


def test_the_commands_of_the_notes_ask_in_the_namespace_of_the_release(helm: Helm) -> None:
    words = ("--dry-run=client", "--namespace", "imaging", "--set", "service.headless=false")
    done = helm("install", "cxr", str(CHART), *words, "--set", "service.port=443")
    assert done.returncode == 0, done.stderr
    notes = done.stdout.partition("\nNOTES:\n")[2]
    assert "cxr-cxr-serve.imaging:443" in notes
    commands = re.findall(r"(?m)^ +kubectl .*$", notes)
    assert len(commands) == 2
    assert all("kubectl --namespace imaging " in command for command in commands)


def test_a_packaged_chart_renders_the_same_rules_included(helm: Helm, tmp_path: Path) -> None:
    """The rules are a link out of the chart's folder, which a package does not have."""
    assert helm("package", str(CHART), "--destination", str(tmp_path)).returncode == 0
    (package,) = tmp_path.glob("cxr-serve-*.tgz")
    words = ("--set", COMBINATIONS["all at once"])
    made = [helm("template", "cxr-serve", str(source), *words) for source in (package, CHART)]
    assert made[0].stdout == made[1].stdout
    assert "CxrServeDown" in made[0].stdout


def test_the_chart_has_the_version_of_the_server() -> None:
    chart = yaml.safe_load((CHART / "Chart.yaml").read_text())
    assert f'version = "{chart["appVersion"]}"' in (ROOT / "server" / "pyproject.toml").read_text()
