"""Relay: requests of the page -> calls of the contract -> answers for the page."""

import asyncio
import json
from typing import Any

from cxr_client.async_client import AsyncClient
from cxr_client.description import Health, ModelDescription
from cxr_client.enums import DicomPresentation
from cxr_client.errors import CxrError
from cxr_client.requests import RenderOptions
from cxr_client.viewer.failures import fields_of, reason_of

_THUMBNAIL_SIDE_PX = 128
_STATE_TIMEOUT_S = 5.0

_STATE_HINTS = {
    "loading": "Wait until the model is loaded.",
    "draining": "The server is shutting down; start it again.",
    "failed": "The log of the server has the cause.",
}
_STATE_MESSAGES = {
    "serving": "The server is ready.",
    "loading": "The server is loading its model.",
    "draining": "The server is shutting down.",
    "failed": "The server has failed.",
}


class Relay:
    """The model server as the page sees it.

    Token and certificates stay in the clients: no answer holds more of the connection than its
    address, and whether it is encrypted.
    """

    def __init__(
        self, images: AsyncClient, status: AsyncClient, *, address: str, tls: bool, max_bytes: int
    ) -> None:
        """Take the client for images, and one without retries that asks for state and model."""
        self._images = images
        self._status = status
        self._address = address
        self._tls = tls
        self.max_bytes = max_bytes
        """The size of the largest image that the clients take."""

    async def state(self) -> tuple[dict[str, Any], dict[str, Any] | None]:
        """Return the state of the server and its model as JSON values; no failure is raised."""
        health, model = await asyncio.gather(
            self._status.health(timeout_s=_STATE_TIMEOUT_S), self.model(), return_exceptions=True
        )
        described = None if isinstance(model, BaseException) else model.to_dict()
        server = {"address": self._address, "tls": self._tls}
        match health:
            case Health():
                return server | _serving(health), described
            case CxrError():
                return server | _unreached(health), described
            case _:
                raise health

    async def model(self) -> ModelDescription:
        """Return the model, or fail at once where the server does not answer."""
        return await self._status.describe_model(timeout_s=_STATE_TIMEOUT_S)

    def max_image_bytes(self, model: ModelDescription) -> int:
        """Return the size of the largest image that both the server and this client take."""
        return min(model.limits.max_request_bytes, self.max_bytes)

    async def explain(
        self,
        image: bytes,
        model: ModelDescription,
        presentation: DicomPresentation | None,
        render: RenderOptions,
    ) -> bytes:
        """Explain every finding; return the answer in its frame, radiograph included."""
        explained = await self._images.explain(
            image,
            labels=[finding.label for finding in model.findings],
            presentation=presentation,
            render=render,
        )
        return framed(explained.to_dict(), explained.radiograph)

    async def thumbnail(self, image: bytes) -> bytes:
        """Return a small picture of the radiograph, PNG."""
        render = RenderOptions(kind="RADIOGRAPH", frame="ORIGINAL", max_side_px=_THUMBNAIL_SIDE_PX)
        explained = await self._images.explain(image, render=render)
        return explained.radiograph


def framed(fields: dict[str, Any], picture: bytes) -> bytes:
    """Return the length of the JSON as uint32, big-endian, then the JSON, then the picture."""
    text = json.dumps(fields, separators=(",", ":"), allow_nan=False).encode()
    return len(text).to_bytes(4) + text + picture


def _serving(health: Health) -> dict[str, Any]:
    state = health.status.lower()
    if state not in _STATE_MESSAGES:  # One that is newer than this client.
        state = "failed"
    return {
        "state": state,
        "message": _STATE_MESSAGES[state],
        "hint": _STATE_HINTS.get(state, ""),
        "server_version": health.server_version,
        "engine": health.engine,
        "device": health.device,
        "precision": health.precision,
        "in_flight_count": health.in_flight_count,
    }


def _unreached(error: CxrError) -> dict[str, Any]:
    """Return the state of a server that answers with an error or not at all."""
    failure = fields_of(error)
    answers = bool(error.reason) or reason_of(error) in ("PROTOCOL", "UNAUTHENTICATED")
    return {
        "state": "failed" if answers else "unreachable",
        "message": failure["message"],
        "hint": failure["hint"],
        "server_version": "",
        "engine": "",
        "device": "",
        "precision": "",
        "in_flight_count": 0,
    }
