"""The image of `make image`, run as the chart's pod: read-only, not root, no capabilities."""

import csv
import io
import json
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from pydicom import uid

from cxr_server.bundles.store import SAMPLES_PATH
from dicom_files import dicom
from handmade_checkpoints import state_dict_file
from operations.chart import Manifests
from operations.container import ARCHIVE, ROOT, Container, unpack
from operations.tools import not_run
from random_weights import random_weights

pytestmark = pytest.mark.operations

MAX_UNPACKED_BYTES = 500_000_000
LOSSLESS = {
    "native": uid.ExplicitVRLittleEndian,
    "deflated": uid.DeflatedExplicitVRLittleEndian,
    "rle": uid.RLELossless,
    "jpeg-lossless": uid.JPEGLosslessSV1,
    "jpeg-ls": uid.JPEGLSLossless,
    "jpeg-2000": uid.JPEG2000Lossless,
}
FILM = SAMPLES_PATH / "phantom-effusion-1.png"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    if not ARCHIVE.exists():
        not_run("there is no build/image.tar here; see `make image`")
    if os.geteuid() != 0:
        not_run("runc needs root here")
    return tmp_path_factory.mktemp("image")


@pytest.fixture(scope="module")
def config(folder: Path) -> dict[str, Any]:
    return unpack(folder)


@pytest.fixture(scope="module")
def rootfs(folder: Path, config: dict[str, Any]) -> Path:
    return folder / "rootfs"


@pytest.fixture(scope="module")
def container(folder: Path, config: dict[str, Any], manifests: Manifests) -> Iterator[Container]:
    data = folder / "data"
    data.mkdir()
    pixels = np.asarray(Image.open(FILM))
    for name, syntax in LOSSLESS.items():
        (data / f"{name}.dcm").write_bytes(dicom(pixels, 8, syntax))
    (data / "baseline.dcm").write_bytes(dicom(pixels, 8, uid.JPEGBaseline8Bit))
    Image.open(FILM).save(data / "film.jpg", quality=95)
    (data / "mine.pt").write_bytes(state_dict_file(random_weights()))
    started = Container(folder, config, manifests["default"], data)
    yield started
    assert started.stop() == 0, started.log.read_text()


def probabilities(container: Container, *films: str) -> dict[str, dict[str, float]]:
    done = container.run("cxr", "predict", "--insecure", "--csv", "--top-k", "all", *films)
    assert done.returncode == 0, done.stderr
    found: dict[str, dict[str, float]] = {}
    for row in csv.DictReader(io.StringIO(done.stdout)):
        found.setdefault(Path(row["file"]).name, {})[row["label"]] = float(row["probability"])
    return found


def test_only_cache_and_tmp_can_be_written_and_no_right_is_left(
    container: Container,
) -> None:
    status = container.run("cat", "/proc/1/status").stdout
    fields = dict(re.findall(r"(?m)^(\w+):\s+(.*)$", status))
    assert fields["Uid"].split() == ["10001"] * 4
    assert {fields[f"Cap{kind}"] for kind in ("Eff", "Prm", "Bnd", "Inh", "Amb")} == {"0" * 16}
    assert fields["NoNewPrivs"] == "1"
    for place in ("/probe", "/opt/cxr/probe", "/etc/probe"):
        assert "Read-only file system" in container.run("touch", place).stderr
    assert container.run("touch", "/data/probe").returncode != 0
    for place in ("/tmp/probe", "/var/cache/cxr/probe"):
        assert container.run("touch", place).returncode == 0


def test_the_health_check_of_the_image_succeeds(
    container: Container, config: dict[str, Any]
) -> None:
    kind, *command = config["Healthcheck"]["Test"]
    assert kind == "CMD"
    done = container.run(*command)
    assert (done.returncode, done.stdout) == (0, "127.0.0.1:50052 answers SERVING\n")


def test_the_metrics_are_where_the_chart_has_them_read(container: Container) -> None:
    code = "import urllib.request as r; print(r.urlopen('http://127.0.0.1:9090/metrics').read())"
    done = container.run("python3", "-c", code)
    assert "rpc_server_call_duration_seconds" in done.stdout, done.stderr


def test_it_finds_in_each_phantom_what_was_drawn(container: Container) -> None:
    done = container.run("cxr-server", "phantom-samples", "--output", "/tmp/phantoms")
    assert done.returncode == 0, done.stderr
    found = probabilities(container, "/tmp/phantoms")
    assert set(found) == {path.name for path in SAMPLES_PATH.glob("*.png")}
    for name, scores in found.items():
        drawn = set(name.split("-")[1:-1]) - {"nothing"}
        above = {label.lower() for label, value in scores.items() if value > 0.9}
        assert above == drawn, name


def test_every_codec_of_the_server_is_in_the_image(container: Container) -> None:
    found = probabilities(container, "/data")
    assert set(found) == {f"{name}.dcm" for name in LOSSLESS} | {"baseline.dcm", "film.jpg"}
    for name in LOSSLESS:
        assert found[f"{name}.dcm"] == pytest.approx(found["native.dcm"], abs=1e-6), name
    for name in ("baseline.dcm", "film.jpg"):
        assert found[name]["Effusion"] == pytest.approx(found["native.dcm"]["Effusion"], abs=0.02)


def test_it_explains(container: Container) -> None:
    words = ("cxr", "explain", "--insecure", "--output", "/tmp/maps", "/data/jpeg-ls.dcm")
    done = container.run(*words)
    assert done.returncode == 0, done.stderr
    assert container.run("ls", "/tmp/maps").stdout.count(".png") == 1


def test_it_converts_a_checkpoint_into_the_volume(container: Container) -> None:
    words = ("cxr-server", "prepare", "mine", "--from", "/data/mine.pt", "--labels", "A,B,C")
    done = container.run(*words)
    assert done.returncode == 0, done.stderr
    assert "equal to" in done.stdout
    free = [f"--{port}listen=127.0.0.1:0" for port in ("", "health-", "metrics-")]
    done = container.run("cxr-server", "doctor", "--model", "mine", *free)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "ok   bundle mine" in done.stdout


def size_bytes(folder: Path) -> int:
    return sum(
        os.lstat(os.path.join(place, name)).st_size
        for place, _, names in os.walk(folder)
        for name in names
    )


def test_the_image_takes_500_mb_at_most_unpacked(rootfs: Path) -> None:
    assert size_bytes(rootfs) < MAX_UNPACKED_BYTES


def test_the_image_holds_no_installer_no_compiler_and_no_torch(rootfs: Path) -> None:
    packages = rootfs.glob("opt/cxr/lib/python3*/site-packages/*")
    names = {path.name for path in packages}
    assert "openvino" in names
    assert names.isdisjoint({"pip", "setuptools", "torch"})
    assert not [*rootfs.glob("opt/cxr/bin/pip*"), *rootfs.glob("usr/bin/gcc*")]


def test_the_bill_of_materials_lists_what_is_locked_and_nothing_else(rootfs: Path) -> None:
    bill = json.loads((rootfs / "opt/cxr/sbom.cdx.json").read_text())
    assert bill["bomFormat"] == "CycloneDX"
    listed = {
        re.sub(r"[-_.]+", "-", each["name"]).lower(): each["version"] for each in bill["components"]
    }
    locked = dict(re.findall(r"(?m)^([\w.-]+)==(\S+)", (ROOT / "locks" / "serve.txt").read_text()))
    ours = {"cxr-client", "cxr-server"}
    assert set(listed) - ours <= set(locked)
    assert set(locked) - set(listed) <= {"setuptools", "tzdata", "colorama"}
    for name in ("grpcio", "openvino", "pillow", "protobuf"):
        assert listed[name] == locked[name]
    assert listed["cxr-server"] == listed["cxr-client"]
    licensed = [each for each in bill["components"] if each.get("licenses")]
    assert len(licensed) > 0.9 * len(bill["components"])
