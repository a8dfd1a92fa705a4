"""Connection: the constructor that both clients share. Next: client, async_client."""

import difflib
from types import ModuleType
from typing import Any, Unpack

from cxr.v1.chest_xray_pb2_grpc import ChestXrayServiceStub
from cxr_client import forks
from cxr_client.address import DEFAULT_SERVER
from cxr_client.channel import open_channel
from cxr_client.config import Options, Settings
from cxr_client.errors import CallCancelledError
from cxr_client.link import Link


class Connection:
    """The settings of a client, and how it opens its channel."""

    def __init__(self, server: str = DEFAULT_SERVER, **options: Unpack[Options]) -> None:
        """Check the options; `Client` documents them."""
        known = Options.__optional_keys__
        for name in options.keys() - known:
            near = difflib.get_close_matches(name, known, n=1, cutoff=0.5)
            hint = f"; did you mean {near[0]!r}?" if near else f": {', '.join(sorted(known))}"
            raise TypeError(f"{type(self).__name__} has no option {name!r}{hint}")
        self._settings = Settings(server=server, **options)
        self._credentials = self._settings.tls.credentials() if self._settings.tls else None
        self._link = Link(self._settings)
        self._closed = False

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self._settings.server!r})"

    def _open_channel(self, grpc_or_aio: ModuleType) -> tuple[Any, ChestXrayServiceStub]:
        """Open a channel of `grpc` or `grpc.aio`; return it with its stub."""
        if self._closed:
            raise CallCancelledError("the client is closed")
        forks.check()
        self._link.connected = False
        channel = open_channel(grpc_or_aio, self._settings, self._credentials)
        return channel, ChestXrayServiceStub(channel)  # type: ignore[no-untyped-call]
