"""Orthanc's REST API, as far as the bridge uses it. Next: bridge."""

import base64
import json
import urllib.error
import urllib.parse
import urllib.request
from dataclasses import dataclass
from http.client import HTTPException
from typing import Any

PAGE = 100
MAX_FILE_BYTES = 64 << 20
TIMEOUT_S = 30


class OrthancUnreachable(Exception):
    """Orthanc is down, starts, or does not accept the password."""


class OrthancRefused(Exception):
    """Orthanc answered one request with an error; `status` is the HTTP status."""

    def __init__(self, status: int) -> None:
        super().__init__(f"HTTP status {status}")
        self.status = status


@dataclass(frozen=True, slots=True)
class Change:
    """One change. Numbers grow; an id is Orthanc's own name of a resource."""

    number: int
    kind: str
    resource_id: str


class Orthanc:
    """One Orthanc server. Each method raises `OrthancUnreachable` or `OrthancRefused`."""

    def __init__(self, url: str, user: str = "", password: str = "") -> None:
        """Take the address of Orthanc's HTTP server, and who asks it."""
        if urllib.parse.urlsplit(url).scheme not in ("http", "https"):
            raise ValueError("the address of Orthanc does not begin with http:// or https://")
        self._url = url.rstrip("/")
        login = base64.b64encode(f"{user}:{password}".encode()).decode()
        self._headers = {"Authorization": f"Basic {login}"} if user else {}

    def changes(self, after: int) -> list[Change]:
        """Return the next changes after a number, oldest first."""
        page = self._ask_json(f"/changes?since={after}&limit={PAGE}")
        return [Change(each["Seq"], each["ChangeType"], each["ID"]) for each in page["Changes"]]

    def last_change(self) -> int:
        """Return the number of the latest change, 0 in an empty Orthanc."""
        return int(self._ask_json("/changes?last")["Last"])

    def sop_class(self, instance_id: str) -> str:
        """Return the SOP class UID of an instance: all that is read of most of them."""
        value = self._ask(f"/instances/{instance_id}/content/0008-0016")
        return value.decode("ascii", "replace").strip("\0 ")

    def film(self, instance_id: str) -> bytes:
        """Return the DICOM file of an instance."""
        return self._ask(f"/instances/{instance_id}/file", max_bytes=MAX_FILE_BYTES)

    def holds(self, sop_instance_uid: str) -> bool:
        """Return whether an object is stored."""
        return bool(self._ask_json("/tools/lookup", sop_instance_uid.encode()))

    def store(self, file: bytes) -> None:
        """Store a DICOM file; one with the same UIDs as a stored one changes nothing."""
        self._ask("/instances", file)

    def _ask_json(self, path: str, body: bytes | None = None) -> Any:
        try:
            return json.loads(self._ask(path, body))
        except ValueError:
            raise OrthancUnreachable("another program answers") from None

    def _ask(self, path: str, body: bytes | None = None, max_bytes: int = 1 << 20) -> bytes:
        """Send a GET, or a POST with a body."""
        request = urllib.request.Request(self._url + path, body, self._headers)
        try:
            with urllib.request.urlopen(request, timeout=TIMEOUT_S) as response:
                answer: bytes = response.read(max_bytes + 1)
        except urllib.error.HTTPError as error:
            with error:
                if error.code in (401, 403, 502, 503, 504):
                    raise OrthancUnreachable(f"HTTP status {error.code}") from None
                raise OrthancRefused(error.code) from None
        except (OSError, HTTPException) as error:
            cause = getattr(error, "reason", error)
            raise OrthancUnreachable(type(cause).__name__) from None
        if len(answer) > max_bytes:
            raise OrthancRefused(413)
        return answer
