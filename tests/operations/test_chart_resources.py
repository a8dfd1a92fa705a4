"""The resources of the Helm chart around its pods."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import yaml

from operations.chart import ALWAYS, Manifest, Manifests, pod, server
from operations.tools import program

pytestmark = pytest.mark.operations

ROOT = Path(__file__).parents[2]
CRDS = Path(__file__).parent / "crds"


def test_each_switch_adds_or_removes_its_own_resource(
    manifests: Manifests,
) -> None:
    kinds = {name: set(manifest) for name, manifest in manifests.items()}
    assert kinds["default"] == ALWAYS
    assert kinds["one replica without any switch"] == {"Deployment", "Service"}
    assert kinds["a real model in a new volume"] == ALWAYS | {"PersistentVolumeClaim"}
    assert kinds["a bundle that is there"] == ALWAYS
    assert kinds["scaled by the queue"] == ALWAYS | {"HorizontalPodAutoscaler"}
    assert kinds["the Prometheus operator"] == ALWAYS | {"PrometheusRule", "ServiceMonitor"}


def test_an_autoscaled_deployment_states_no_replicas(
    manifests: Manifests,
) -> None:
    def metrics(name: str) -> list[str]:
        scaler = manifests[name]["HorizontalPodAutoscaler"]["spec"]
        assert "replicas" not in manifests[name]["Deployment"]["spec"]
        target = {k: manifests[name]["Deployment"][k] for k in ("apiVersion", "kind")}
        assert scaler["scaleTargetRef"] == target | {"name": "cxr-serve"}
        return [each["type"] for each in scaler["metrics"]]

    assert metrics("scaled by the queue") == ["Pods"]
    assert metrics("scaled by CPU") == ["Resource"]
    assert metrics("scaled by both") == ["Pods", "Resource"]
    assert manifests["default"]["Deployment"]["spec"]["replicas"] == 2


def test_the_selectors_of_all_resources_find_the_pods(
    manifests: Manifests,
) -> None:
    for name, manifest in manifests.items():
        labels = manifest["Deployment"]["spec"]["template"]["metadata"]["labels"].items()
        selectors = list(selectors_in(manifest))
        assert len(selectors) >= 2, name
        for selector in selectors:
            assert selector.items() <= labels, name
        service = manifest["Service"]
        named = {each["name"] for each in server(manifest)["ports"]}
        assert {each["targetPort"] for each in service["spec"]["ports"]} <= named, name


def selectors_in(manifest: dict[str, Manifest]) -> Iterator[dict[str, str]]:
    yield manifest["Service"]["spec"]["selector"]
    yield manifest["Deployment"]["spec"]["selector"]["matchLabels"]
    for spread in pod(manifest).get("topologySpreadConstraints", ()):
        yield spread["labelSelector"]["matchLabels"]
    for kind, key in (("NetworkPolicy", "podSelector"), ("PodDisruptionBudget", "selector")):
        if kind in manifest:
            yield manifest[kind]["spec"][key]["matchLabels"]


def test_the_network_policy_names_ports_that_the_server_has(
    manifests: Manifests,
) -> None:
    for name in ("default", "other callers", "all at once"):
        policy = manifests[name]["NetworkPolicy"]["spec"]
        opened = {port["port"] for rule in policy["ingress"] for port in rule["ports"]}
        assert (
            opened == {"grpc", "metrics"} <= {p["name"] for p in server(manifests[name])["ports"]}
        )
    assert manifests["a bundle that is there"]["NetworkPolicy"]["spec"]["egress"] == []
    other = manifests["other callers"]["NetworkPolicy"]["spec"]
    assert other["ingress"][0]["from"] == [{"namespaceSelector": {"matchLabels": {"pacs": "yes"}}}]
    assert other["egress"][-1] == {"ports": [{"port": 4317}]}


def test_the_network_policy_admits_nobody_where_nobody_is_listed(
    manifests: Manifests,
) -> None:
    for name, expected in (
        ("no callers", {"metrics"}),
        ("no scrapers", {"grpc"}),
        ("neither", set()),
    ):
        rules = manifests[name]["NetworkPolicy"]["spec"]["ingress"]
        assert {port["port"] for rule in rules for port in rule["ports"]} == expected
        assert all(rule["from"] for rule in rules)  # an empty one admits everybody


@pytest.fixture(scope="module")
def crd_models(tmp_path_factory: pytest.TempPathFactory) -> Callable[[list[Manifest]], str]:
    """Says what is wrong with custom resources, by the models of their definitions."""
    folder = tmp_path_factory.mktemp("crds")
    shutil.copytree(CRDS, folder, dirs_exist_ok=True)
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])

    def run(words: list[str], text: str = "") -> str:
        done = subprocess.run(
            words,
            cwd=folder,
            env={**os.environ, "PATH": path},
            input=text,
            capture_output=True,
            text=True,
            timeout=300,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    run(["npm", "ci", "--ignore-scripts", "--loglevel=error"])
    return lambda resources: run(["node", "validate.js"], json.dumps(resources))


def test_the_custom_resources_fit_the_prometheus_operators_definitions(
    manifests: Manifests, crd_models: Callable[[list[Manifest]], str]
) -> None:
    custom = [
        resource
        for manifest in manifests.values()
        for resource in manifest.values()
        if resource["apiVersion"].startswith("monitoring.coreos.com/")
    ]
    assert {each["kind"] for each in custom} == {"PrometheusRule", "ServiceMonitor"}
    assert crd_models(custom) == ""
    monitor = manifests["the Prometheus operator"]["ServiceMonitor"]
    (endpoint,) = monitor["spec"]["endpoints"]
    wrong = monitor | {"spec": {"selector": {}, "endpoints": [endpoint | {"port": 9090}]}}
    assert "port must be string" in crd_models([wrong])


def test_the_rule_of_the_operator_holds_the_rules_of_prometheus(
    manifests: Manifests, tmp_path: Path
) -> None:
    rules = yaml.safe_load((ROOT / "deploy" / "prometheus" / "rules.yml").read_text())
    made = manifests["the Prometheus operator"]["PrometheusRule"]
    assert made["spec"] == rules
    file = tmp_path / "rules.yml"
    file.write_text(yaml.safe_dump(made["spec"]))
    words = [program("promtool"), "check", "rules", file]
    done = subprocess.run(words, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_service_monitor_finds_the_port_of_the_metrics(
    manifests: Manifests,
) -> None:
    manifest = manifests["the Prometheus operator"]
    monitor, service = manifest["ServiceMonitor"], manifest["Service"]
    wanted = monitor["spec"]["selector"]["matchLabels"]
    assert wanted.items() <= service["metadata"]["labels"].items()
    assert monitor["metadata"]["labels"]["release"] == "prometheus"
    (endpoint,) = monitor["spec"]["endpoints"]
    assert endpoint["port"] in {port["name"] for port in service["spec"]["ports"]}
    assert "annotations" not in manifest["Deployment"]["spec"]["template"]["metadata"]
