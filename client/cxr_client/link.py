"""Link: the state of a client's connection, shared by its calls. Next: calls."""

import logging

from cxr_client.causes import cause_of
from cxr_client.config import Settings

log = logging.getLogger("cxr_client")


class Link:
    """The settings of a client and the state of its connection, shared by its calls.

    The first failure of an outage is logged as a warning of the logger "cxr_client", by default on
    standard error, and its end as information. Nothing about images is logged.
    """

    def __init__(self, settings: Settings) -> None:
        """Start without connection."""
        self.settings = settings
        self.connected = False
        self._outage = False

    def answered(self) -> None:
        """Note an answer of the server, an error included."""
        self.connected = True
        if self._outage:
            self._outage = False
            log.info("%s answers", self.settings.server)

    def failed(self, problem: str, *, again: bool) -> None:
        """Note that the server was not reached, and whether another attempt follows."""
        self.connected = False
        if again and not self._outage:
            self._outage = True
            log.warning("%s; trying again", problem)

    def problem(self, details: str) -> str:
        """Return the sentence for what gRPC says about a failed connection."""
        tls = self.settings.tls is not None
        cause = cause_of(details, tls=tls, connected=self.connected)
        return f"no connection to {self.settings.server}: {cause}"
