"""`cxr-server serve` with files and addresses that it cannot use, or should not."""

import json
import os
import re
import shutil
import signal
import socket
import ssl
import stat
import time
from datetime import timedelta
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import serialization

from cxr_client import Client, TLSConfig
from cxr_server.__main__ import main
from cxr_server.access import RELOAD_S, new_token
from cxr_server.preflight import check_audit
from cxr_server.settings import parse
from images import png
from refused_start import refused_start
from serving import ServerProcess
from trust.certificates import Authority

pytestmark = pytest.mark.usefixtures("decoding_in_threads")
IMAGE = png()


def refusal(*flags: str, env: dict[str, str] | None = None, status: int = 2) -> str:
    """Start a server that cannot start; return what its one error says."""
    found, event = refused_start(*flags, env=env)
    assert found == status, event
    return str(event["error"])


def warnings(server: ServerProcess) -> list[str]:
    """What the server found doubtful in its settings."""
    events = [json.loads(line) for line in server.log.splitlines()]
    return [event["detail"] for event in events if event["event"] == "doubtful setting"]


# --- TLS ---


class Pair:
    """A certificate and its key, with the flags that name them."""

    def __init__(self, folder: Path, **options: timedelta) -> None:
        self.authority = Authority(folder / "ca", "hospital CA")
        self.certificate, self.key = self.authority.sign(folder, "server", **options)
        self.key.chmod(0o600)

    @property
    def flags(self) -> list[str]:
        return ["--tls-cert", str(self.certificate), "--tls-key", str(self.key)]


@pytest.fixture
def pair(tmp_path: Path) -> Pair:
    return Pair(tmp_path / "tls")


def test_a_key_of_another_certificate_is_told(pair: Pair, tmp_path: Path) -> None:
    pair.key = Pair(tmp_path / "other").key
    said = refusal(*pair.flags)
    assert f"--tls-key {pair.key} is not the key of --tls-cert {pair.certificate}" in said


def test_a_chain_that_does_not_begin_with_the_servers_certificate_is_told(pair: Pair) -> None:
    own = pair.certificate.read_bytes()
    pair.certificate.write_bytes(pair.authority.certificate.read_bytes() + own)
    assert "whose first certificate must be the server's own" in refusal(*pair.flags)


def test_pem_that_is_broken_or_of_another_kind_is_told(pair: Pair) -> None:
    certificate, key = pair.certificate.read_bytes(), pair.key.read_bytes()
    half = certificate[:200] + certificate[300:]
    for name, file, content, message in (
        ("cert", pair.certificate, b"", "holds no CERTIFICATE: it is empty"),
        ("cert", pair.certificate, b"hello\n", "holds no CERTIFICATE: it is not a PEM file"),
        ("cert", pair.certificate, key, "holds no CERTIFICATE: it holds a PRIVATE KEY"),
        ("cert", pair.certificate, half, "holds a certificate that cannot be read"),
        ("key", pair.key, certificate, "holds no PRIVATE KEY: it holds a CERTIFICATE"),
        ("key", pair.key, key[:60] + key[80:], "cannot be used"),
    ):
        before = file.read_bytes()
        file.write_bytes(content)
        assert f"--tls-{name} {file} {message}" in refusal(*pair.flags)
        file.write_bytes(before)


def test_der_and_encrypted_keys_are_told_with_the_command_that_mends_them(pair: Pair) -> None:
    key = serialization.load_pem_private_key(pair.key.read_bytes(), None)
    encrypted = key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.BestAvailableEncryption(b"secret"),
    )
    pair.key.write_bytes(encrypted)
    said = refusal(*pair.flags)
    assert f"--tls-key {pair.key} is encrypted" in said
    assert "openssl pkey" in said
    der = key.private_bytes(
        serialization.Encoding.DER,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )
    pair.key.write_bytes(der)
    assert f"--tls-key {pair.key} is a DER file" in refusal(*pair.flags)


def test_files_that_cannot_be_read_are_named_with_their_variable(pair: Pair) -> None:
    env = {"CXR_TLS_CERT": "/nosuch.pem", "CXR_TLS_KEY": str(pair.key)}
    assert "CXR_TLS_CERT=/nosuch.pem: No such file or directory" in refusal(env=env)


def test_a_client_ca_that_is_no_certificate_is_told(pair: Pair) -> None:
    said = refusal(*pair.flags, "--tls-client-ca", str(pair.key))
    assert f"--tls-client-ca {pair.key} holds no CERTIFICATE" in said


@pytest.mark.slow
def test_a_certificate_without_its_key_is_not_taken_over(pair: Pair, tmp_path: Path) -> None:
    with ServerProcess(*pair.flags) as server:
        other = Pair(tmp_path / "other")
        shutil.copy(other.certificate, pair.certificate)
        tls = TLSConfig(ca=pair.authority.certificate)
        while "certificates kept" not in server.log:  # looked at by a handshake, once a second
            with Client(server.address, tls=tls) as client:
                assert client.health().status == "SERVING"
        assert "is not the key of" in server.log


@pytest.mark.slow
def test_certificates_that_were_reloaded_are_used_though_the_files_break_afterwards(
    pair: Pair,
) -> None:
    with ServerProcess(*pair.flags) as server:
        new, _ = pair.authority.sign(pair.certificate.parent, "new")
        wanted = new.read_text()
        server.process.send_signal(signal.SIGHUP)
        while '"certificates reloaded"' not in server.log:
            time.sleep(0.05)
        pair.certificate.write_bytes(b"no certificate")
        time.sleep(2 * RELOAD_S)  # so that the next handshake looks at the files
        host, _, port = server.address.rpartition(":")
        assert ssl.get_server_certificate((host, int(port))) == wanted
        while "certificates kept" not in server.log:  # lines are up to 0.1 s late
            time.sleep(0.05)


# --- tokens ---


def test_a_line_that_is_no_token_is_told_by_its_number_and_not_quoted(tmp_path: Path) -> None:
    file = tmp_path / "tokens"
    file.write_text(f"{new_token('ward-3')[1]}\ns3cret\n")
    said = refusal("--tokens-file", str(file))
    assert f"--tokens-file {file}: line 2 is not name:sha256" in said
    assert "s3cret" not in said


@pytest.mark.slow
def test_a_tokens_file_with_a_byte_order_mark_is_read(tmp_path: Path) -> None:
    token, line = new_token("ward-3")
    file = tmp_path / "tokens"
    file.write_text(line, encoding="utf-8-sig")
    with (
        ServerProcess("--tokens-file", str(file)) as server,
        Client(server.address, token=token) as client,
    ):
        assert client.predict(IMAGE).findings


@pytest.mark.slow
def test_a_deleted_tokens_file_is_logged_once_and_the_tokens_are_kept(tmp_path: Path) -> None:
    token, line = new_token("ward-3")
    file = tmp_path / "tokens"
    file.write_text(line)
    with (
        ServerProcess("--tokens-file", str(file)) as server,
        Client(server.address, token=token) as client,
    ):
        file.unlink()
        while "file kept as it was" not in server.log:
            assert client.predict(IMAGE).findings
        assert client.predict(IMAGE).findings
        assert server.log.count("file kept as it was") == 1


# --- addresses ---


@pytest.mark.parametrize("name", ["listen", "metrics-listen", "health-listen"])
def test_a_port_that_is_taken_is_named_with_its_setting(name: str) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        said = refusal(f"--{name}", address, status=1)
    assert f"--{name} {address}: it is in use: stop what listens there, or choose" in said


def test_a_name_without_an_address_is_told() -> None:
    said = refusal("--health-listen", "nosuch.invalid:50052", status=1)
    assert "the name nosuch.invalid cannot be resolved" in said


def test_an_address_of_another_machine_is_told() -> None:
    said = refusal("--metrics-listen", "192.0.2.1:9090", status=1)
    assert "--metrics-listen 192.0.2.1:9090" in said
    assert "it is not an address of this machine" in said


@pytest.mark.slow
def test_a_unix_socket_is_served_to_its_user_and_removed_at_the_end(tmp_path: Path) -> None:
    path = tmp_path / "cxr.sock"
    with ServerProcess("--listen", f"unix:{path}") as server:
        assert server.address == f"unix:{path}"
        assert stat.S_IMODE(path.stat().st_mode) & 0o022 == 0  # to connect is to write
        with Client(server.address) as client:
            assert client.predict(IMAGE).findings
        said = refusal("--listen", f"unix:{path}", status=1)
        assert "it is in use by another server" in said
        with Client(server.address) as client:  # the other has not taken the socket away
            assert client.predict(IMAGE).findings
        assert server.stop() == 0
    assert not path.exists()


@pytest.mark.slow
def test_the_socket_of_a_server_that_was_killed_is_replaced(tmp_path: Path) -> None:
    path = tmp_path / "cxr.sock"
    with socket.socket(socket.AF_UNIX) as gone:
        gone.bind(str(path))
    flags = ("--listen", f"unix:{path}", "--health-listen", f"unix:{tmp_path / 'health.sock'}")
    with ServerProcess(*flags) as server, Client(server.address) as client:
        assert client.predict(IMAGE).findings


# --- folders, model and environment ---


@pytest.mark.parametrize(
    ("model", "advice"),
    [
        ("nosuch", "`cxr-server models` lists what there is"),
        ("phantm", r"did you mean phantom\?"),
        ("densenet121-res224-al", r"did you mean densenet121-res224-all \(run `cxr-server prepare"),
        ("densenet121-res224-all", "is not prepared: run `cxr-server prepare densenet121"),
    ],
)
def test_a_model_that_is_not_there_gets_advice_that_can_be_followed(
    model: str, advice: str, tmp_path: Path
) -> None:
    said = refusal("--model", model, "--bundle-home", str(tmp_path), status=1)
    assert f"--model {model}" in said
    assert re.search(advice, said)
    assert "prepare nosuch" not in said


def test_two_models_of_one_name_are_refused_before_anything_is_loaded() -> None:
    said = refusal("--model", "phantom", "--model", "other=phantom", "--model", "phantom", status=1)
    assert said.startswith("two models are called phantom: give one another name")


def test_an_audit_file_that_is_a_named_pipe_is_refused(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "link").symlink_to("pipe")
    for name in ("pipe", "link"):
        said = refusal("--audit-file", str(tmp_path / name))
        assert f"--audit-file {tmp_path / name} is a named pipe" in said


def test_the_pipe_behind_standard_output_may_be_an_audit_file() -> None:
    read, write = os.pipe()
    settings = parse(["--audit-file", f"/proc/self/fd/{write}"], {})
    assert [doubt for doubt in check_audit(settings) if "pipe" in doubt] == []
    os.close(read)
    os.close(write)


def test_a_mistyped_variable_ends_the_start() -> None:
    said = refusal(env={"CXR_TOKENS_FLE": "/x"})
    assert "CXR_TOKENS_FLE is not a setting; did you mean CXR_TOKENS_FILE?" in said


def test_what_is_doubtful_is_a_warning_and_the_server_starts(tmp_path: Path) -> None:
    """An expired certificate, files with the wrong permissions, folders that cannot be used, ..."""
    pair = Pair(tmp_path, ends_in=timedelta(hours=-1))
    pair.key.chmod(0o644)
    tokens = tmp_path / "tokens"
    tokens.write_text("# nobody yet\n")
    tokens.chmod(0o666)
    folders = ("--cache-dir", "/proc/nosuch", "--bundle-home", "/nosuch")
    flags = (*pair.flags, "--tokens-file", str(tokens), *folders)
    with ServerProcess(*flags, env={"CXR_COLOUR": "red"}) as server:
        found = warnings(server)
    assert sorted(found) == sorted(
        [
            "CXR_COLOUR is not a setting and is ignored",
            "--bundle-home /nosuch is not a folder: there are no prepared bundles",
            "--cache-dir /proc/nosuch cannot be written to, so models are compiled at every start: "
            "No such file or directory",
            f"--tls-key {pair.key} can be read by every user: chmod 600",
            f"--tls-cert {pair.certificate}: callers will refuse it: certificate has expired",
            f"--tokens-file {tokens} holds no token: every call will be refused",
            f"--tokens-file {tokens} can be changed by every user: chmod 600",
        ]
    )


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["serve", "--max-queu", "3"], "there is no flag --max-queu"),
        (["serve", "--max-inflight", "3"], "did you mean --max-in-flight?"),
        (["serve", "--tls", "c"], "there is no flag --tls"),
        (["serv"], "there is no command serv; did you mean serve?"),
        (["token"], "the following arguments are required: NAME"),
    ],
)
def test_wrong_usage_is_one_line_with_the_nearest_right_word(
    words: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(words) == 2
    said = capsys.readouterr().err
    assert said.count("\n") == 1
    assert message in said
    assert "--help`)" in said
