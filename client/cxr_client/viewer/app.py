"""App: the routes of the page and its API."""

import asyncio
import mimetypes
import traceback
from collections.abc import Awaitable, Callable, Iterable
from pathlib import Path
from typing import Any
from urllib.parse import quote

from starlette.applications import Starlette
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Mount, Route
from starlette.staticfiles import StaticFiles
from starlette.types import ASGIApp

from cxr_client import __version__
from cxr_client.enums import DicomPresentation, RenderFrame
from cxr_client.errors import CxrError
from cxr_client.link import log
from cxr_client.requests import RenderOptions
from cxr_client.viewer.body import read_body
from cxr_client.viewer.calls import Slots, while_connected
from cxr_client.viewer.failures import Refusal, fields_of
from cxr_client.viewer.films import Films
from cxr_client.viewer.relay import Relay
from cxr_client.viewer.security import Security
from cxr_client.viewer.thumbnails import Thumbnails

NOTICE = "For research use only. Not for diagnosis, and not a medical device."
_STATIC = Path(__file__).parent / "static"
_BYTES = "application/octet-stream"
_THUMBNAIL_BYTES = 16 * 2**20

BACKGROUND = 2
"""How many films are read for a thumbnail or a download at a time."""

Endpoint = Callable[[Request], Awaitable[Response]]


def create_app(relay: Relay, films: Films, *, slots: int, allowed_hosts: Iterable[str]) -> ASGIApp:
    """Return the application.

    Args:
        relay: The model server.
        films: The films that the page lists.
        slots: How many explanations may be in flight.
        allowed_hosts: Names under which the page is reached, beside addresses and "localhost".
    """
    # The table of the system may call modules plain text, which browsers refuse.
    mimetypes.add_type("text/javascript", ".js")
    api = _Api(relay, films, Slots(slots))
    routes = [
        Mount("/api", routes=api.routes()),
        Mount("/", StaticFiles(directory=_STATIC, html=True)),
    ]
    return Security(Starlette(routes=routes), allowed_hosts)


class _Api:
    """The endpoints. Failures are answers with `error`, since browsers log other statuses."""

    def __init__(self, relay: Relay, films: Films, slots: Slots) -> None:
        self._relay = relay
        self._films = films
        self._slots = slots
        # The page requests many thumbnails at once; explanations must not wait behind them.
        self._background = asyncio.Semaphore(BACKGROUND)
        self._thumbnails = Thumbnails(_THUMBNAIL_BYTES)

    def routes(self) -> list[Route]:
        endpoints: list[tuple[str, str, Endpoint]] = [
            ("GET", "/state", self.state),
            ("POST", "/explanations", self.explain_upload),
            ("POST", "/films/{id}/explanation", self.explain_film),
            ("GET", "/films/{id}", self.film),
            ("GET", "/films/{id}/thumbnail", self.thumbnail),
        ]
        return [
            Route(path, _answering(endpoint), methods=[method])
            for method, path, endpoint in endpoints
        ]

    async def state(self, request: Request) -> Response:
        server, model = await self._relay.state()
        films = await self._films.listed()
        content = {
            "server": server,
            "model": model,
            "films": films,
            "folder_is_empty": self._films.folder_is_empty,
            "notice": _notice(model),
            "version": __version__,
        }
        return JSONResponse(content)

    async def explain_upload(self, request: Request) -> Response:
        presentation, render = _presentation(request), _render(request)
        with self._slots.taken():
            model = await self._relay.model()
            image = await read_body(request, self._relay.max_image_bytes(model))
            work = self._relay.explain(image, model, presentation, render)
            return Response(await while_connected(request, work), media_type=_BYTES)

    async def explain_film(self, request: Request) -> Response:
        presentation, render = _presentation(request), _render(request)
        film = self._films[request.path_params["id"]]

        async def work() -> bytes:
            model = await self._relay.model()
            image = await film.read(self._relay.max_image_bytes(model))
            return await self._relay.explain(image, model, presentation, render)

        with self._slots.taken():
            return Response(await while_connected(request, work()), media_type=_BYTES)

    async def film(self, request: Request) -> Response:
        film = self._films[request.path_params["id"]]
        async with self._background:
            data = await film.read(self._relay.max_bytes)
        name = quote(Path(film.name).name)
        headers = {"content-disposition": f"attachment; filename*=utf-8''{name}"}
        return Response(data, headers=headers, media_type=_BYTES)

    async def thumbnail(self, request: Request) -> Response:
        film = self._films[request.path_params["id"]]

        async def work() -> bytes:
            async with self._background:
                png = await self._relay.thumbnail(await film.read(self._relay.max_bytes))
            self._thumbnails.put(film.id, png)
            return png

        png = self._thumbnails.get(film.id) or await while_connected(request, work())
        return Response(png, media_type="image/png")


def _answering(endpoint: Endpoint) -> Endpoint:
    """Return an endpoint that answers failures as JSON with `error`."""

    async def answer(request: Request) -> Response:
        try:
            return await endpoint(request)
        except (CxrError, Refusal) as error:
            return JSONResponse({"error": fields_of(error)})
        except ClientDisconnect:
            return Response()  # The browser has disconnected.
        except Exception as error:
            # Log the traceback without the message, which may contain the name of a file.
            where = "".join(traceback.format_tb(error.__traceback__))
            log.error("unexpected %s in the web server:\n%s", type(error).__name__, where)
            unexpected = Refusal("INTERNAL", "The web server has failed.")
            return JSONResponse({"error": fields_of(unexpected)})

    return answer


def _notice(model: dict[str, Any] | None) -> str:
    """Return the notice that the model's answers carry, or ours until the model is known."""
    notices = model["notices"] if model else []
    return str(notices[0]) if notices else NOTICE


def _presentation(request: Request) -> DicomPresentation | None:
    text = request.query_params.get("presentation")
    if text is None:
        return None
    if text.upper().replace("-", "_") not in DicomPresentation.choices():
        raise Refusal("INVALID_FIELD", "presentation is neither as-shown nor stored.")
    return DicomPresentation(text)


def _render(request: Request) -> RenderOptions:
    """Return which picture of the radiograph is asked for: the whole film unless it says."""
    frame = request.query_params.get("frame", "original")
    if frame.upper().replace("-", "_") not in RenderFrame.choices():
        raise Refusal("INVALID_FIELD", "frame is neither original nor model-input.")
    return RenderOptions(
        kind="RADIOGRAPH", frame=RenderFrame(frame), max_side_px=_max_side_px(request)
    )


def _max_side_px(request: Request) -> int | None:
    text = request.query_params.get("max_side_px")
    if text is None:
        return None
    if not (text.isascii() and text.isdigit() and len(text) < 10):
        raise Refusal("INVALID_FIELD", "max_side_px is not a number of pixels.")
    return int(text)
