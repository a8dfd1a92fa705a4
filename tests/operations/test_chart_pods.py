"""The pods of the Helm chart: settings, probes, volumes, secrets, rights, GPU."""

import pytest

from cxr_server import settings
from operations.chart import COMBINATIONS, Manifest, Manifests, environment, pod, server

pytestmark = pytest.mark.operations


def test_the_server_accepts_the_settings_of_every_combination(
    manifests: Manifests,
) -> None:
    for name, manifest in manifests.items():
        variables = environment(server(manifest))
        read = settings.parse([], env={k: v for k, v in variables.items() if k.startswith("CXR_")})
        values = dict(part.split("=", 1) for part in COMBINATIONS[name].split(",") if "=" in part)
        expected = (values.get("model.name", "phantom"),)
        if name == "two models":
            expected = ("chest=densenet121-res224-all", "canary=phantom")
        assert read.model == expected, name
        assert read.insecure is ("tls.secretName" not in values), name
        assert bool(read.tls_cert) is bool(read.tls_key) is ("tls.secretName" in values), name
        assert bool(read.tls_client_ca) is ("tls.clientCA" in values), name
        assert bool(read.tokens_file) is ("tokens.secretName" in values), name
        grace_s = pod(manifest)["terminationGracePeriodSeconds"]
        assert grace_s > read.drain_pause_s + read.grace_s, name


def test_settings_reach_the_server_as_they_were_written(
    manifests: Manifests,
) -> None:
    manifest = manifests["settings and variables"]
    variables = environment(server(manifest))
    assert variables["CXR_MAX_PIXELS"] == "50000000"
    assert variables["CXR_REFLECTION"] == "false"
    assert variables["CXR_UPLOAD_TIMEOUT_S"] == "2.5"
    (prepare,) = pod(manifest)["initContainers"]
    assert environment(prepare) == {"HTTPS_PROXY": "http://proxy:3128"}


def ports(container: Manifest) -> set[int]:
    return {each["containerPort"] for each in container["ports"]}


def test_probes_ask_the_health_port_or_with_tls_the_port_of_the_calls(
    manifests: Manifests,
) -> None:
    asked = {}
    for name, manifest in manifests.items():
        container = server(manifest)
        start, ready = (container[f"{kind}Probe"]["grpc"] for kind in ("startup", "readiness"))
        assert ready == start | {"service": "cxr.v1.ChestXrayService"}
        assert start["port"] in ports(container)
        if start["port"] == 50052:
            listen = environment(container)["CXR_HEALTH_LISTEN"]
            assert listen.rpartition(":")[2] == "50052"
        asked[name] = start
    assert asked["default"] == asked["TLS"] == asked["mutual TLS"] == {"port": 50052}
    assert asked["plaintext without the health port"] == {"port": 50051}
    assert asked["TLS without the health port"] == {"port": 50051, "mode": "TLS"}


def test_the_kubelet_restarts_a_server_that_says_it_hangs_where_it_can_ask(
    manifests: Manifests,
) -> None:
    for name, manifest in manifests.items():
        container = server(manifest)
        probe = container["livenessProbe"]
        if "CXR_METRICS_LISTEN" in environment(container):
            assert probe["httpGet"] == {"path": "/healthz", "port": "metrics"}, name
        else:
            assert probe["tcpSocket"] == {"port": "grpc"}, name


def test_every_container_has_no_rights_to_lose(
    manifests: Manifests,
) -> None:
    for name, manifest in manifests.items():
        spec = pod(manifest)
        assert spec["automountServiceAccountToken"] is False, name
        assert spec["securityContext"]["runAsNonRoot"] is True, name
        assert ("runAsUser" in spec["securityContext"]) is (name != "ids of OpenShift")
        for container in [*spec.get("initContainers", ()), *spec["containers"]]:
            assert container["securityContext"] == {
                "allowPrivilegeEscalation": False,
                "capabilities": {"drop": ["ALL"]},
                "readOnlyRootFilesystem": True,
            }, name
            assert {mount["name"] for mount in container["volumeMounts"]} <= {
                volume["name"] for volume in spec["volumes"]
            }, name


def test_the_model_lies_in_a_volume_that_the_server_only_reads(
    manifests: Manifests,
) -> None:
    def volumes(name: str) -> dict[str, Manifest]:
        return {each["name"]: each for each in pod(manifests[name])["volumes"]}

    def claim(name: str) -> object:
        return volumes(name)["bundles"]["persistentVolumeClaim"]["claimName"]

    real = pod(manifests["a real model in an emptyDir"])
    (prepare,) = real["initContainers"]
    assert prepare["args"] == [
        *("prepare", "--if-missing", "densenet121-res224-all"),
        *("--url", "https://mirror.example.org/weights.pt"),
    ]
    mounts = {each["name"]: each for each in real["containers"][0]["volumeMounts"]}
    assert mounts["bundles"]["readOnly"] is True
    assert "emptyDir" in volumes("a real model in an emptyDir")["bundles"]
    assert claim("a real model in a new volume") == "cxr-serve"
    assert claim("a bundle that is there") == "models"
    assert "initContainers" not in pod(manifests["a bundle that is there"])


def test_every_model_is_prepared_under_the_name_of_its_bundle(manifests: Manifests) -> None:
    prepared = [each["args"] for each in pod(manifests["two models"])["initContainers"]]
    assert prepared == [
        ["prepare", "--if-missing", bundle] for bundle in ("densenet121-res224-all", "phantom")
    ]
    names = [each["name"] for each in pod(manifests["two models"])["initContainers"]]
    assert names == ["prepare", "prepare-2"]


def test_secrets_are_read_by_the_pods_group_alone(
    manifests: Manifests,
) -> None:
    manifest = manifests["TLS with tokens"]
    secrets = {v["name"]: v["secret"] for v in pod(manifest)["volumes"] if "secret" in v}
    assert secrets == {
        "tls": {"secretName": "cert", "defaultMode": 0o440},
        "tokens": {"secretName": "cxr", "defaultMode": 0o440},
    }
    mounted = {m["name"]: m["mountPath"] for m in server(manifest)["volumeMounts"]}
    variables = environment(server(manifest))
    assert variables["CXR_TLS_KEY"] == f"{mounted['tls']}/tls.key"
    assert variables["CXR_TOKENS_FILE"] == f"{mounted['tokens']}/list"


def test_a_gpu_brings_its_engine_image_and_limit(
    manifests: Manifests,
) -> None:
    manifest = manifests["GPU"]
    container = server(manifest)
    assert container["image"] == "cxr-serve:0.1.0-cuda"
    assert container["resources"]["limits"] == {"memory": "4Gi", "nvidia.com/gpu": 1}
    variables = environment(container)
    assert (variables["CXR_ENGINE"], variables["CXR_DEVICE"]) == ("torch", "cuda:0")
    (prepare,) = pod(manifest)["initContainers"]
    assert "nvidia.com/gpu" not in prepare["resources"]["limits"]
