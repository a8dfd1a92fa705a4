"""Security: which requests are answered at all, and the headers of every answer."""

import ipaddress
from collections.abc import Iterable
from typing import Any

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

_CONTENT_SECURITY_POLICY = {
    "default-src": "'none'",
    "script-src": "'self'",
    "style-src": "'self'",
    "img-src": "'self' blob:",
    "connect-src": "'self'",
    "base-uri": "'none'",
    "form-action": "'none'",
    "frame-ancestors": "'none'",
    "require-trusted-types-for": "'script'",
    "trusted-types": "'none'",
}
_OFF = (
    "accelerometer",
    "camera",
    "display-capture",
    "geolocation",
    "gyroscope",
    "hid",
    "microphone",
    "midi",
    "payment",
    "publickey-credentials-get",
    "serial",
    "usb",
)
HEADERS = {
    "content-security-policy": "; ".join(map(" ".join, _CONTENT_SECURITY_POLICY.items())),
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "permissions-policy": ", ".join(f"{feature}=()" for feature in _OFF),
    "cache-control": "no-store",
}
"""The headers of every answer."""

_LOCALHOST = "localhost"


class Security:
    """Middleware: refuses requests of other pages and for other names, sets the headers.

    - Host must be an address, "localhost" or an allowed name: a name that an attacker lets
      resolve to this address (DNS rebinding) is none of them.
    - Sec-Fetch-Site must not name another site, not even another port of this machine, except to
      follow a link to the page. Browsers leave it out over plaintext from another machine; there,
      Origin must be this page's.
    """

    def __init__(self, app: ASGIApp, allowed_hosts: Iterable[str]) -> None:
        self._app = app
        self._allowed = {_LOCALHOST, *(name.lower() for name in allowed_hosts)}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request."""
        if scope["type"] != "http":
            return await self._app(scope, receive, send)

        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in HEADERS.items():
                    headers[name] = value
            await send(message)

        refusal = self._refusal(scope)
        app = self._app if refusal is None else JSONResponse({"error": refusal}, 403)
        return await app(scope, receive, send_with_headers)

    def _refusal(self, scope: Scope) -> dict[str, Any] | None:
        headers = Headers(scope=scope)
        host = headers.get("host", "")
        if not self._is_allowed(_name(host)):
            hint = "If this name is the page's own, start cxr view with --allowed-host NAME."
            return _error("HOST_REFUSED", "The page does not answer under this name.", hint)
        if not self._is_own(headers, scope):
            return _error("SITE_REFUSED", "Another page has sent this request.", "")
        return None

    def _is_own(self, headers: Headers, scope: Scope) -> bool:
        site = headers.get("sec-fetch-site")
        if site is None:
            return self._is_own_origin(headers.get("origin"), headers["host"])
        if site == "same-origin":
            return True
        reads = scope["method"] in ("GET", "HEAD")
        if site == "none":  # Typed, or a bookmark.
            return reads
        follows = (headers.get("sec-fetch-mode"), headers.get("sec-fetch-dest"))
        # A link leads to the page alone.
        return reads and follows == ("navigate", "document") and scope["path"] == "/"

    def _is_own_origin(self, origin: str | None, host: str) -> bool:
        if origin is None:
            return True
        authority = origin.partition("://")[2].lower()
        # A proxy may put its own name for this server into Host.
        return authority == host.lower() or _name(authority) in self._allowed - {_LOCALHOST}

    def _is_allowed(self, name: str) -> bool:
        if name in self._allowed:
            return True
        try:
            return bool(ipaddress.ip_address(name))
        except ValueError:
            return False


def _name(authority: str) -> str:
    """Return the host of "host:port", in lower case, without brackets."""
    host = authority.lower()
    if host.startswith("["):
        return host[1:].partition("]")[0]
    return host.partition(":")[0].removesuffix(".")


def _error(reason: str, message: str, hint: str) -> dict[str, Any]:
    return {
        "reason": reason,
        "message": message,
        "hint": hint,
        "retry_after_s": None,
        "request_id": None,
    }
