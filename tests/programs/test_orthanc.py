"""The bridge of deploy/orthanc between a real Orthanc and a real server.

Debian packages `orthanc`, `dcmtk` (storescu sends the films) and `dicom3tools` (dciodvfy checks
the reports).
"""

import base64
import json
import os
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest
from pydicom.data import get_testdata_file

import dicom_files
from clients import overload
from cxr_client.testing import FakeServer, failure
from images import chest_like
from serving import ServerProcess
from trust.ports import free_port

pytestmark = pytest.mark.programs

BRIDGE = Path(__file__).parents[2] / "deploy" / "orthanc" / "bridge.py"
FILM = str(get_testdata_file("RG1_UNCR.dcm", download=False))
STRUCTURED = "1.2.840.10008.5.1.4.1.1.88.34"  # Comprehensive 3D SR
CAPTURE = "1.2.840.10008.5.1.4.1.1.7"  # Secondary Capture
LOGIN = ("bridge", "secret")


class Orthanc:
    """An Orthanc with a storage of its own. Use as a context manager; it can be started again."""

    def __init__(self, folder: Path) -> None:
        self.http_port, self.dicom_port = free_port(), free_port()
        self.url = f"http://127.0.0.1:{self.http_port}"
        self.path = folder / "orthanc.json"
        storage = str(folder / "storage")
        config = {
            "StorageDirectory": storage,
            "IndexDirectory": storage,
            "Plugins": [],
            "HttpPort": self.http_port,
            "DicomPort": self.dicom_port,
            "DicomAet": "ORTHANC",
            "AuthenticationEnabled": True,
            "RegisteredUsers": dict([LOGIN]),
        }
        self.path.write_text(json.dumps(config))

    def __enter__(self) -> "Orthanc":
        self.process = subprocess.Popen(
            ["Orthanc", str(self.path)], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        eventually(self.answers, "Orthanc does not start")
        return self

    def __exit__(self, *_: object) -> None:
        self.process.terminate()
        self.process.wait(60)

    def answers(self) -> bool:
        try:
            return bool(self.ask("/system"))
        except (urllib.error.URLError, ConnectionError):
            return False

    def ask(self, path: str, method: str = "GET") -> bytes:
        login = base64.b64encode(":".join(LOGIN).encode()).decode()
        headers = {"Authorization": f"Basic {login}"}
        request = urllib.request.Request(self.url + path, headers=headers, method=method)
        with urllib.request.urlopen(request, timeout=30) as response:
            return response.read()

    def send(self, film: str | Path) -> None:
        """Send a film as a modality does, by C-STORE."""
        command = ["storescu", "127.0.0.1", str(self.dicom_port), "-aec", "ORTHANC", str(film)]
        subprocess.run(command, check=True, capture_output=True)

    def last_change(self) -> int:
        return int(json.loads(self.ask("/changes?last"))["Last"])

    def objects(self) -> dict[str, list[tuple[str, pydicom.FileDataset]]]:
        """Ids and datasets of all that is stored, by SOP class."""
        found: dict[str, list[tuple[str, pydicom.FileDataset]]] = {}
        for each in json.loads(self.ask("/instances")):
            dataset = pydicom.dcmread(BytesIO(self.ask(f"/instances/{each}/file")))
            found.setdefault(dataset.SOPClassUID, []).append((each, dataset))
        return found


class BridgeProcess:
    """The bridge in a process. Use as a context manager."""

    def __init__(self, orthanc: Orthanc, server: str, folder: Path, *flags: str) -> None:
        self.orthanc, self.state, self.log_path = orthanc, folder / "state", folder / "log"
        self.command = [sys.executable, str(BRIDGE), "--state", str(self.state), *flags]
        login = dict(zip(("ORTHANC_USER", "ORTHANC_PASSWORD"), LOGIN, strict=True))
        where = {"ORTHANC_URL": orthanc.url, "CXR_SERVER": server}
        self.env = {**os.environ, **login, **where}

    def __enter__(self) -> "BridgeProcess":
        with self.log_path.open("wb") as log:
            self.process = subprocess.Popen(self.command, env=self.env, stderr=log)
        return self

    def __exit__(self, kind: object, *_: object) -> None:
        self.process.terminate()
        status = self.process.wait(60)
        assert kind or status == 0, self.log

    @property
    def log(self) -> str:
        return self.log_path.read_text()

    def follows(self) -> bool:
        """Whether it knows where it starts."""
        return "following Orthanc" in self.log

    def is_idle(self) -> bool:
        """Whether it has seen every change, those of its own reports included."""
        return self.follows() and int(self.state.read_text()) == self.orthanc.last_change()


def eventually(holds: Callable[[], bool], message: str) -> None:
    until = time.monotonic() + 90
    while not holds():
        assert time.monotonic() < until, message
        time.sleep(0.1)


@pytest.fixture
def orthanc(tmp_path: Path) -> Iterator[Orthanc]:
    with Orthanc(tmp_path) as started:
        yield started


def bridged(orthanc: Orthanc, server: str, folder: Path, *flags: str) -> str:
    """Run the bridge until there is nothing left to do, and return its log."""
    with BridgeProcess(orthanc, server, folder, *flags) as bridge:
        eventually(bridge.is_idle, "the bridge does not get to the last change")
        return bridge.log


def counts(orthanc: Orthanc) -> dict[str, int]:
    return {kind: len(found) for kind, found in orthanc.objects().items()}


def film_of(folder: Path, name: str, **attributes: Any) -> Path:
    stored = (chest_like(512) / 16).astype(np.uint16)
    uids = {"StudyInstanceUID": "1.2.4", "SeriesInstanceUID": "1.2.5", "SOPInstanceUID": "1.2.6"}
    path = folder / name
    path.write_bytes(dicom_files.dicom(stored, **{**uids, "PatientID": "77", **attributes}))
    return path


def complaints(dataset: pydicom.Dataset, folder: Path) -> set[str]:
    """The errors that dciodvfy finds in an object."""
    path = folder / "checked.dcm"
    dataset.save_as(path)
    done = subprocess.run(["dciodvfy", str(path)], capture_output=True, text=True, check=False)
    assert done.stderr
    return {line for line in done.stderr.splitlines() if line.startswith(("Error", "Abort"))}


def test_a_film_gets_one_report_however_often_the_bridge_sees_it(
    orthanc: Orthanc, phantom_server: ServerProcess, tmp_path: Path
) -> None:
    one_of_each = {pydicom.dcmread(FILM).SOPClassUID: 1, STRUCTURED: 1, CAPTURE: 1}
    server = phantom_server.address
    with BridgeProcess(orthanc, server, tmp_path) as bridge:
        eventually(bridge.follows, "the bridge does not start")
        orthanc.send(FILM)
        eventually(lambda: STRUCTURED in counts(orthanc), bridge.log)
        eventually(bridge.is_idle, "the bridge does not read the changes that it has caused")
        assert counts(orthanc) == one_of_each
    assert ": reported" in bridge.log
    assert "reported" not in bridged(orthanc, server, tmp_path)
    assert counts(orthanc) == one_of_each

    # As if the state were lost.
    bridge.state.unlink()
    assert "reported already" in bridged(orthanc, server, tmp_path, "--existing")
    assert counts(orthanc) == one_of_each

    # As if the bridge had been killed between the two objects.
    bridge.state.unlink()
    ((report_id, before),) = orthanc.objects()[STRUCTURED]
    orthanc.ask(f"/instances/{report_id}", "DELETE")
    bridged(orthanc, server, tmp_path, "--existing")
    assert counts(orthanc) == one_of_each
    ((_, after),) = orthanc.objects()[STRUCTURED]
    assert after.SOPInstanceUID == before.SOPInstanceUID


def test_the_reports_are_valid_and_say_what_they_are(
    orthanc: Orthanc, phantom_server: ServerProcess, tmp_path: Path
) -> None:
    orthanc.send(FILM)
    log = bridged(orthanc, phantom_server.address, tmp_path, "--existing")
    ((_, structured),) = orthanc.objects()[STRUCTURED]
    ((_, capture),) = orthanc.objects()[CAPTURE]
    film = pydicom.dcmread(FILM)
    assert complaints(structured, tmp_path) == set()
    assert complaints(capture, tmp_path) <= complaints(film, tmp_path)
    for each in (structured, capture):
        assert each.StudyInstanceUID == film.StudyInstanceUID
        assert each.PatientID == film.PatientID
        assert "RESEARCH ONLY, not for diagnosis" in each.SeriesDescription
    assert structured.VerificationFlag == "UNVERIFIED"
    assert capture.pixel_array.shape[2] == 3
    for words in (str(film.PatientName), film.PatientID, film.PatientBirthDate):
        assert words not in log


def test_a_film_of_a_hand_is_refused_by_its_reason(
    orthanc: Orthanc, phantom_server: ServerProcess, tmp_path: Path
) -> None:
    orthanc.send(film_of(tmp_path, "hand.dcm", BodyPartExamined="HAND"))
    log = bridged(orthanc, phantom_server.address, tmp_path, "--existing")
    assert "refused: IMAGE_REFUSED" in log
    assert "Nobody" not in log
    assert set(counts(orthanc).values()) == {1}


def test_a_film_that_fails_is_given_up_and_a_full_server_is_not_counted(
    orthanc: Orthanc, tmp_path: Path
) -> None:
    orthanc.send(FILM)
    with FakeServer() as server:
        steps = [overload(retry_after_s=1000), *[failure("INTERNAL", "INTERNAL")] * 3]
        server.script(*steps, rpc="Explain")
        log = bridged(orthanc, server.address, tmp_path, "--existing")
        explained = [call for call in server.calls if call.rpc == "Explain"]
    assert "waiting: cxr-serve, QUEUE_FULL" in log
    assert "given up: INTERNAL" in log
    assert len(explained) == len(steps)
    assert STRUCTURED not in counts(orthanc)


def test_the_bridge_waits_for_orthanc_and_for_the_server(tmp_path: Path) -> None:
    stopped = Orthanc(tmp_path)
    address = f"127.0.0.1:{free_port()}"
    with BridgeProcess(stopped, address, tmp_path, "--existing") as bridge:
        eventually(lambda: "waiting: Orthanc" in bridge.log, "it does not look for Orthanc")
        with stopped as orthanc:
            orthanc.send(FILM)
            eventually(lambda: "waiting: cxr-serve" in bridge.log, bridge.log)
            assert STRUCTURED not in counts(orthanc)
            with ServerProcess("--listen", address):
                eventually(bridge.is_idle, bridge.log)
            assert counts(orthanc)[STRUCTURED] == counts(orthanc)[CAPTURE] == 1
