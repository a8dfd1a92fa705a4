"""What `cxr` says of a wrong command line, and its help."""

from pathlib import Path

import pytest

from cxr_client.testing import FakeServer
from cxr_command import Run


@pytest.mark.parametrize(
    ("argv", "line"),
    [
        ([], "the following arguments are required: COMMAND (see cxr --help)"),
        (["predcit"], "there is no command predcit; did you mean predict? (see cxr --help)"),
        (["--versoin"], "there is no global option --versoin; did you mean --version?"),
        (["predict"], "nothing to read: give a FILE, or --files-from (see cxr predict --help)"),
        (["predict", "x", "--top-k", "0"], '--top-k: "0" is not a whole number of at least 1'),
        (["predict", "x", "--top-k", "al"], '--top-k: "al" is not a whole number of at least 1'),
        (["predict", "x", "--jobs", "2.5"], '--jobs: "2.5" is not a whole number of at least 1'),
        (["predict", "x", "--json", "--csv"], "--csv: not allowed with --json"),
        (["predict", "x", "--timeout", "nan"], '--timeout: "nan" is not a positive number of'),
        (["predict", "x", "--timeout", "5m"], '--timeout: "5m" is not a positive number of'),
        (["predict", "x", "--topk", "3"], "there is no option --topk; did you mean --top-k?"),
        (["explain", "x", "--opacity", "half"], '--opacity: "half" is not a number'),
        (["explain", "x", "--color-map", "infreno"], '--color-map: "infreno" is not one of INF'),
        (["explain", "x", "--color-map", "infreno"], "did you mean INFERNO? (see cxr explain"),
        (["explain", "x", "--token=s3cret"], "there is no option --token; did you mean --token-"),
        (["health", "now"], '"now" is one argument too many (see cxr health --help)'),
        (["completion", "tcsh"], "shell: invalid choice: 'tcsh'"),
        (["predict", "x", "--server", "10.1.2.3:1"], "unencrypted; give --tls or --insecure (see"),
        (["health", "--server", "http://h:1"], "--server: 'http://h:1' is a URL; give 'h:1'"),
        (["health", "--server", "h"], "--server: 'h' has no port; give 'h:50051'"),
        (["health", "--tls", "--insecure"], "--insecure contradicts --tls"),
        (["health", "--token-file", "/no/file"], "--token-file /no/file: No such file or direct"),
        (["health", "--ca-file", "/no/file"], "--ca-file /no/file: No such file or directory"),
        (["health", "--key-file", "/no/file"], "--key-file"),
    ],
)
def test_wrong_usage_ends_with_status_2_and_one_line_that_names_what_was_typed(
    cxr: Run, fake: FakeServer, argv: list[str], line: str
) -> None:
    status, out, err = cxr(*argv)
    assert (status, out) == (2, "")
    (only,) = err.splitlines()
    assert only.startswith("cxr: ")
    assert line in only
    assert "s3cret" not in only
    assert not fake.calls


def test_own_certificate_needs_its_key(cxr: Run, tmp_path: Path) -> None:
    (tmp_path / "a.pem").write_text("")
    status, _, err = cxr("health", "--cert-file", tmp_path / "a.pem")
    assert status == 2
    assert err.startswith("cxr: --cert-file: is given alone; give --key-file (see")


def test_a_file_that_is_no_certificate_is_refused(cxr: Run, tmp_path: Path) -> None:
    (tmp_path / "a.pem").write_text("text")
    status, _, err = cxr("health", "--ca-file", tmp_path / "a.pem")
    assert status == 2
    assert err.startswith("cxr: --ca-file: is not in the PEM format")


@pytest.mark.parametrize(
    ("variable", "value", "line"),
    [
        ("CXR_SERVER", "http://h:1", "CXR_SERVER: 'http://h:1' is a URL"),
        ("CXR_CA_FILE", "/no/file", "CXR_CA_FILE /no/file: No such file or directory"),
        ("CXR_KEY_FILE", "/no/file", "CXR_KEY_FILE: is given alone; give --cert-file"),
        ("CXR_TOKEN", "a b", "CXR_TOKEN: is empty or contains characters other than visible ASCII"),
        ("CXR_TLS", "maybe", "CXR_TLS=maybe is neither 1 nor 0"),
    ],
)
def test_a_wrong_variable_of_the_environment_is_named(
    cxr: Run, monkeypatch: pytest.MonkeyPatch, variable: str, value: str, line: str
) -> None:
    monkeypatch.setenv(variable, value)
    status, out, err = cxr("health")
    assert (status, out, len(err.splitlines())) == (2, "", 1)
    assert line in err


def test_plaintext_that_is_asked_for_overrides_the_environment(
    cxr: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CXR_TLS", "1")
    assert cxr("health", "--insecure")[0] == 0


@pytest.mark.parametrize("command", ["predict", "explain", "report", "health", "model", "version"])
def test_the_help_of_a_command_is_in_groups(cxr: Run, command: str) -> None:
    status, out, _ = cxr(command, "--help")
    assert status == 0
    groups = ["connection", "security"]
    if command in ("predict", "explain"):
        groups = ["images", "output", *groups]
    if command == "explain":
        groups = ["images", "findings", "output", "drawing", *groups[2:]]
    positions = [out.index(f"\n{group}:\n") for group in groups]
    assert positions == sorted(positions)
