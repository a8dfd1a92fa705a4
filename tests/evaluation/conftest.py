"""`cxr` without a server: evaluation needs none."""

import pytest

from cxr_command import Run, runner


@pytest.fixture
def cxr(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Run:
    """Runs the command; returns status, output and errors."""
    monkeypatch.delenv("CXR_SERVER", raising=False)
    return runner(capsys)
