"""Bridge: follows the changes of an Orthanc, and reports on each new chest radiograph in it.

    Orthanc /changes -> CR and DX -> Explain -> structured report, capture -> Orthanc /instances

For research use only: nothing that this writes is a diagnosis. See README.md.
"""

import argparse
import logging
import os
import signal
import sys
import threading
import traceback
import warnings
from io import BytesIO
from pathlib import Path

from pydicom import Dataset, dcmread

from cxr_client import (
    Client,
    CxrError,
    InvalidRequestError,
    OverloadedError,
    RenderOptions,
    TLSConfig,
    UnauthenticatedError,
)
from cxr_client.dicom_report import is_report, report, structured_uid
from orthanc import Change, Orthanc, OrthancRefused, OrthancUnreachable

RADIOGRAPHS = (
    "1.2.840.10008.5.1.4.1.1.1",  # Computed Radiography
    "1.2.840.10008.5.1.4.1.1.1.1",  # Digital X-Ray, for presentation
)
"""SOP classes that are sent. Those of the reports are not among them."""

ATTEMPTS = 3
"""Failures, while both servers answer, after which a film is given up."""

RENDER = RenderOptions(frame="ORIGINAL", legend=True)
POLL_S = 2.0
LONGEST_PAUSE_S = 30.0
READY_S = 10.0

log = logging.getLogger("orthanc_bridge")


class NotNow(Exception):
    """The next change cannot be handled yet; the message says why."""


class Bridge:
    """Follows one Orthanc; `run` returns once `stopping` is set."""

    def __init__(
        self, orthanc: Orthanc, client: Client, state: Path, stopping: threading.Event
    ) -> None:
        """Take both servers, and the file that keeps the number of the last change."""
        self._orthanc = orthanc
        self._client = client
        self._state = state
        self._stopping = stopping
        self._failures = 0  # of the next change
        self._pause_s = POLL_S
        self._problem = ""

    def run(self, *, existing: bool = False) -> None:
        """Report on new films, and at first with `existing` on those that Orthanc has already.

        Raises:
            OSError: The state cannot be kept.
            ValueError: The file of the state holds something else.
        """
        last: int | None = None
        while not self._stopping.is_set():
            try:
                if last is None:
                    last = self._start(existing)
                    log.info("following Orthanc from change %d", last)
                changes = self._orthanc.changes(last)
                for change in changes:
                    if self._stopping.is_set():
                        return
                    self._handle(change)
                    last = change.number
                    self._save(last)
                    self._settled()
                if not changes:
                    self._settled()
                    self._stopping.wait(POLL_S)
            except (OrthancUnreachable, OrthancRefused) as error:
                self._wait(f"Orthanc, {error}")
            except NotNow as error:
                self._wait(str(error))

    def _start(self, existing: bool) -> int:
        """Return the number of the last change that is done."""
        newest = self._orthanc.last_change()
        if self._state.exists():
            try:
                saved = int(self._state.read_text())
            except ValueError:
                raise ValueError(f"{self._state} does not hold the number of a change") from None
            if saved <= newest:
                return saved
            log.warning("Orthanc was emptied: its changes are followed from the first")
            return 0
        last = 0 if existing else newest
        self._save(last)
        return last

    def _save(self, last: int) -> None:
        part = self._state.with_suffix(".part")
        part.write_text(f"{last}\n")
        part.replace(self._state)

    def _handle(self, change: Change) -> None:
        """Report on one change, or log why not.

        Errors are logged by kind and place: their messages may quote the header of the film.

        Raises:
            NotNow, OrthancUnreachable: It is to be handled again.
        """
        if change.kind != "NewInstance":
            return
        try:
            outcome = self._report(change)
        except (NotNow, OrthancUnreachable):
            raise
        except InvalidRequestError as error:
            outcome = f"refused: {_kind(error)}"
        except Exception as error:
            gone = isinstance(error, OrthancRefused) and error.status == 404
            self._failures += 1
            if self._failures < ATTEMPTS and not gone:
                raise NotNow(f"change {change.number}: {_kind(error)}") from None
            outcome = "deleted" if gone else f"given up: {_kind(error)}"
        self._failures = 0
        if outcome:
            log.info("change %d: %s", change.number, outcome)

    def _report(self, change: Change) -> str:
        """Return what became of an instance, "" if it is of another kind."""
        instance_id = change.resource_id
        if self._orthanc.sop_class(instance_id) not in RADIOGRAPHS:
            return ""
        film = self._orthanc.film(instance_id)
        header = dcmread(BytesIO(film), stop_before_pixels=True)
        if is_report(header):
            return ""
        try:
            model = self._client.wait_until_ready(READY_S).model
        except CxrError as error:
            raise NotNow(f"cxr-serve, {_kind(error)}") from None
        if model and self._orthanc.holds(structured_uid(header.SOPInstanceUID, model)):
            return "reported already"
        try:
            explained = self._client.explain(
                film, render=RENDER, strict_input=True, request_id=f"orthanc-{change.number}"
            )
        except (OverloadedError, UnauthenticatedError) as error:
            raise NotNow(f"cxr-serve, {_kind(error)}") from None
        written = report(film, explained)
        # The structured report comes last: where it is stored, everything is.
        for each in (written.capture, written.structured):
            self._orthanc.store(_file(each))
        return "reported"

    def _wait(self, problem: str) -> None:
        """Wait, longer each time, and log a problem once."""
        if problem != self._problem:
            log.warning("waiting: %s", problem)
        self._problem = problem
        self._stopping.wait(self._pause_s)
        self._pause_s = min(2 * self._pause_s, LONGEST_PAUSE_S)

    def _settled(self) -> None:
        if self._problem:
            log.info("going on")
        self._problem, self._pause_s = "", POLL_S


def _kind(error: Exception) -> str:
    """Return what failed where, without the message."""
    match error:
        case OrthancRefused():
            return f"Orthanc, {error}"
        case CxrError():
            return error.reason or type(error).__name__
        case _:
            place = traceback.extract_tb(error.__traceback__)[-1]
            return f"{type(error).__name__} in {Path(place.filename).name}:{place.lineno}"


def _file(dataset: Dataset) -> bytes:
    buffer = BytesIO()
    dataset.save_as(buffer, enforce_file_format=True)
    return buffer.getvalue()


def log_only_our_own() -> None:
    """Silence the messages of libraries: pydicom's and highdicom's quote values of headers."""
    warnings.simplefilter("ignore")
    logging.getLogger().addHandler(logging.NullHandler())
    handler = logging.StreamHandler()
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(message)s"))
    for name in ("orthanc_bridge", "cxr_client"):
        logging.getLogger(name).addHandler(handler)
        logging.getLogger(name).setLevel(logging.INFO)


def main(argv: list[str] | None = None) -> int:
    """Run until SIGTERM or SIGINT."""
    environ = os.environ
    parser = argparse.ArgumentParser(
        description="Report on the new chest radiographs in an Orthanc. Research use only.",
        epilog="ORTHANC_USER and ORTHANC_PASSWORD, CXR_TOKEN, CXR_CA_FILE, CXR_CERT_FILE, "
        "CXR_KEY_FILE, CXR_TLS_SERVER_NAME and CXR_TLS come from the environment alone.",
    )
    add = parser.add_argument
    add("--orthanc", default=environ.get("ORTHANC_URL", "http://127.0.0.1:8042"), help="its URL")
    add("--server", default=environ.get("CXR_SERVER", "127.0.0.1:50051"), help="cxr-serve")
    add(
        "--state",
        type=Path,
        default=environ.get("BRIDGE_STATE", "bridge.state"),
        help="file that keeps the number of the last change",
    )
    add("--existing", action="store_true", help="at first, take the films that are there already")
    add("--insecure", action="store_true", help="allow plaintext to cxr-serve on another machine")
    arguments = parser.parse_args(argv)
    log_only_our_own()
    stopping = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stopping.set())
    try:
        orthanc = Orthanc(
            arguments.orthanc, environ.get("ORTHANC_USER", ""), environ.get("ORTHANC_PASSWORD", "")
        )
        client = Client(
            arguments.server,
            tls=TLSConfig.from_env(),
            token=environ.get("CXR_TOKEN") or None,
            insecure=arguments.insecure,
            timeout_s=60,
        )
        with client:
            Bridge(orthanc, client, arguments.state, stopping).run(existing=arguments.existing)
    except (OSError, ValueError) as error:
        print(f"failed: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
