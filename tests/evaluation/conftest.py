"""`cxr` without a server: evaluation needs none."""

import pytest

from cxr_client.cli import main
from cxr_command import Run


@pytest.fixture
def cxr(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Run:
    """Runs the command; returns status, output and errors."""
    monkeypatch.delenv("CXR_SERVER", raising=False)

    def run(*argv: object) -> tuple[int, str, str]:
        try:
            status = main([str(each) for each in argv])
        except SystemExit as end:
            status = int(end.code or 0)
        captured = capsys.readouterr()
        return status, captured.out, captured.err

    return run
