"""Compose and Kubernetes: a model is prepared before the server starts, into what it reads."""

import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from upstream import published_file, sha256, upstream

ROOT = Path(__file__).parents[1]
NAME = "densenet121-res224-nih"
IMAGE = dict(re.findall(r"(CXR_\w+)=(\S+)", (ROOT / "Dockerfile").read_text()))


@pytest.fixture(scope="module")
def services() -> dict[str, Any]:
    services = yaml.safe_load((ROOT / "docker-compose.yml").read_text())["services"]
    assert isinstance(services, dict)
    return services


@pytest.fixture(scope="module")
def pod() -> dict[str, Any]:
    documents = yaml.safe_load_all((ROOT / "deploy" / "kubernetes.yaml").read_text())
    (deployment,) = (each for each in documents if each["kind"] == "Deployment")
    pod = deployment["spec"]["template"]["spec"]
    assert isinstance(pod, dict)
    return pod


def with_variables(text: str, **variables: str) -> str:
    """Return a text of the compose file with `${NAME:-default}` filled in."""
    return re.sub(r"\$\{(\w+):-([^}]*)\}", lambda m: variables.get(m[1]) or m[2], text)


def test_compose_starts_the_server_after_prepare_has_succeeded(services) -> None:
    assert services["server"]["depends_on"] == {
        "prepare": {"condition": "service_completed_successfully"}
    }
    assert "restart" not in services["prepare"]
    command = [with_variables(word, CXR_MODEL=NAME) for word in services["prepare"]["command"]]
    assert command == ["prepare", "--if-missing", NAME]
    assert with_variables(services["server"]["environment"]["CXR_MODEL"], CXR_MODEL=NAME) == NAME


def test_compose_mounts_the_bundles_where_the_image_looks_for_them(services) -> None:
    written, read = (
        dict(with_variables(volume).split(":", 1) for volume in services[name]["volumes"])
        for name in ("prepare", "server")
    )
    assert written == {"bundles": IMAGE["CXR_BUNDLE_HOME"], "cache": IMAGE["CXR_CACHE_DIR"]}
    assert read == written | {"bundles": f"{IMAGE['CXR_BUNDLE_HOME']}:ro"}


def test_compose_mounts_files_that_exist_and_volumes_that_it_declares(services) -> None:
    declared = yaml.safe_load((ROOT / "docker-compose.yml").read_text())["volumes"]
    sources = {
        with_variables(volume).split(":")[0]
        for service in services.values()
        for volume in service.get("volumes", ())
    }
    files = {source for source in sources if source.startswith("./")}
    assert files
    assert [source for source in files if not (ROOT / source).is_file()] == []
    assert sources - files == set(declared)


def test_compose_publishes_each_port_once_and_on_loopback_alone(services) -> None:
    beside = yaml.safe_load((ROOT / "deploy" / "orthanc" / "docker-compose.yml").read_text())
    published = [
        port.rsplit(":", 1)[0]
        for service in [*services.values(), *beside["services"].values()]
        for port in service.get("ports", ())
    ]
    assert len(set(published)) == len(published)
    assert all(port.startswith("127.0.0.1:") for port in published)


@pytest.mark.parametrize("name", ["docker-compose.yml", "deploy/orthanc/docker-compose.yml"])
def test_every_variable_of_compose_is_explained_and_has_a_default_or_is_demanded(name: str) -> None:
    head, _, body = (ROOT / name).read_text().partition("\nservices:")
    for variable, operator in re.findall(r"\$\{(\w+)(:[-?])?", body):
        assert operator, variable
        assert variable in head, variable


def test_prometheus_of_compose_reads_the_server_and_grafana_reads_prometheus(services) -> None:
    folder = ROOT / "deploy" / "compose"
    prometheus = yaml.safe_load((folder / "prometheus.yml").read_text())
    (job,) = prometheus["scrape_configs"]
    _, port = services["server"]["environment"]["CXR_METRICS_LISTEN"].split(":")
    assert job["static_configs"] == [{"targets": [f"server:{port}"]}]
    mounted = [volume.split(":")[1] for volume in services["prometheus"]["volumes"]]
    assert {f"/etc/prometheus/{name}" for name in prometheus["rule_files"]} <= set(mounted)
    (source,) = yaml.safe_load((folder / "datasources.yml").read_text())["datasources"]
    assert source["url"] == "http://prometheus:9090"
    (provider,) = yaml.safe_load((folder / "dashboards.yml").read_text())["providers"]
    home = services["grafana"]["environment"]["GF_DASHBOARDS_DEFAULT_HOME_DASHBOARD_PATH"]
    mounted = [volume.split(":")[1] for volume in services["grafana"]["volumes"]]
    assert home in mounted
    assert str(Path(home).parent) == provider["options"]["path"]


def test_every_container_of_compose_has_no_rights_to_lose(services) -> None:
    for name, service in services.items():
        assert service["read_only"] is True, name
        assert service["cap_drop"] == ["ALL"], name
        assert service["security_opt"] == ["no-new-privileges:true"], name
        assert "user" not in service, name  # the image's
        assert service.get("build") or re.search(r":v?\d", service["image"]), name
        assert service["mem_limit"], name


def test_kubernetes_prepares_the_model_that_it_serves(pod) -> None:
    (prepare,), (server,) = pod["initContainers"], pod["containers"]
    variables = {entry["name"]: entry["value"] for entry in server["env"]}
    assert prepare["args"] == ["prepare", "--if-missing", variables["CXR_MODEL"]]
    assert prepare["image"] == server["image"]
    assert prepare["securityContext"] == server["securityContext"]
    written, read = (
        {mount["name"]: mount for mount in container["volumeMounts"]}
        for container in (prepare, server)
    )
    assert written["bundles"]["mountPath"] == IMAGE["CXR_BUNDLE_HOME"]
    assert written["cache"]["mountPath"] == IMAGE["CXR_CACHE_DIR"]
    assert read == written | {"bundles": written["bundles"] | {"readOnly": True}}
    assert set(written) == {volume["name"] for volume in pod["volumes"]}


def is_sent(path: str, ignored: list[str]) -> bool:
    """Whether a file of the build's context reaches the builder: the last rule about it decides."""
    sent = True
    for rule in ignored:
        name = rule.removeprefix("!")
        if name == "*" or path == name or path.startswith(f"{name}/"):
            sent = rule.startswith("!")
    return sent


@pytest.mark.parametrize("name", ["Dockerfile", "deploy/orthanc/Dockerfile"])
def test_what_a_dockerfile_copies_is_there_and_is_sent_to_the_builder(name: str) -> None:
    own = ROOT / f"{name}.dockerignore"
    ignored = (own if own.exists() else ROOT / ".dockerignore").read_text().splitlines()
    copies = re.findall(r"(?m)^COPY (?!--from)(.*) \S+$", (ROOT / name).read_text())
    sources = {source for copy in copies for source in copy.split()}
    assert sources
    for source in sources:
        assert (ROOT / source).exists(), source
        assert is_sent(source, ignored), source


def run(folder: Path, *words: str) -> subprocess.CompletedProcess[str]:
    """Run the image's program with its two folders in `folder`, and without a home."""
    homes = {"CXR_BUNDLE_HOME": f"{folder}/bundles", "CXR_CACHE_DIR": f"{folder}/cache"}
    return subprocess.run(
        [sys.executable, "-m", "cxr_server", *words],
        cwd="/",
        env={**os.environ, **homes, "HOME": "/nonexistent"},
        capture_output=True,
        text=True,
        timeout=300,
    )


@pytest.mark.slow
def test_the_commands_of_compose_prepare_a_volume_once(services, tmp_path) -> None:
    bundles, cache = tmp_path / "bundles", tmp_path / "cache"
    bundles.mkdir()
    cache.mkdir()
    command = services["prepare"]["command"]

    phantom = run(tmp_path, *map(with_variables, command))
    assert (phantom.returncode, phantom.stderr) == (0, "")
    assert "is prepared already" in phantom.stdout
    assert list(bundles.iterdir()) == list(cache.iterdir()) == []

    words = [with_variables(word, CXR_MODEL=NAME) for word in command]
    content = published_file()
    with upstream(content) as url:
        made = run(tmp_path, *words, "--url", url, "--sha256", sha256(content))
    assert (made.returncode, made.stderr) == (0, "")
    again = run(tmp_path, *words)
    assert again.stdout == f"{bundles}/{NAME} is prepared already\n"
    serves = run(tmp_path, "doctor", "--model", NAME, "--listen", "127.0.0.1:0")
    assert serves.returncode == 0, serves.stdout + serves.stderr
