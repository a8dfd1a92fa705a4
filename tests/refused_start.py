"""`cxr-server serve` that is refused before it takes over the process's log and signals."""

import io
import json
import os
import signal
from contextlib import redirect_stderr, redirect_stdout
from typing import Any
from unittest.mock import patch

from cxr_server.__main__ import main


def refused_start(*flags: str, env: dict[str, str] | None = None) -> tuple[int, dict[str, Any]]:
    """Return the exit status and the one line of the log, in this process: a start takes a third
    of a second. Flags that are not refused would start a server that nothing stops.
    """
    printed, told = io.StringIO(), io.StringIO()
    sighup = signal.getsignal(signal.SIGHUP)
    words = ["serve", "--listen", "127.0.0.1:0", "--log-format", "json", *flags]
    with patch.dict(os.environ, env or {}), redirect_stdout(printed), redirect_stderr(told):
        try:
            status = main(words)
        finally:
            signal.signal(signal.SIGHUP, sighup)
    assert printed.getvalue() == ""
    (line,) = told.getvalue().splitlines()
    event = json.loads(line)
    assert (event["event"], event["level"]) == ("failed", "error")
    return status, event
