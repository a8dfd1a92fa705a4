"""Authentication by token and certificate, and no plaintext by accident."""

import asyncio
import hashlib
import ssl
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import grpc
import pytest
from cryptography import x509
from cryptography.x509.oid import NameOID
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc

from cxr.v1 import chest_xray_pb2 as pb
from cxr.v1.chest_xray_pb2_grpc import ChestXrayServiceStub
from cxr_client import (
    AsyncClient,
    Client,
    CxrError,
    RetryConfig,
    TLSConfig,
    UnauthenticatedError,
)
from cxr_server import access
from cxr_server.access import new_token
from cxr_server.errors import Unauthenticated
from cxr_server.settings import SettingsError, parse
from images import png
from scrape import scrape
from serving import ServerProcess
from trust.certificates import Authority
from trust.outcomes import reason_of
from trust.ports import free_port

SERVING = health_pb2.HealthCheckResponse.SERVING
PREDICT = "/cxr.v1.ChestXrayService/Predict"
IMAGE = png()
IN_THREADS = ("--decode-processes", "0")  # starting them takes a third of a start


async def until_answered(client: AsyncClient) -> None:
    """Wait until the server has reloaded its files, which it checks once a second."""
    async with asyncio.timeout(60):
        while True:
            try:
                await client.describe_model(timeout_s=30)
            except CxrError:
                await asyncio.sleep(0.1)
            else:
                return


# --- tokens ---


class Tokens:
    """A server that requires tokens, its tokens file, and a token in it."""

    def __init__(self, folder: Path) -> None:
        self.file = folder / "tokens"
        self.known, line = new_token("ward-3")
        self.file.write_text(f"# who may call\n\n{line}\n")
        self.metrics = f"127.0.0.1:{free_port()}"
        self.server: ServerProcess


@pytest.fixture(scope="module")
def tokens(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Tokens]:
    tokens = Tokens(tmp_path_factory.mktemp("tokens"))
    flags = ("--tokens-file", str(tokens.file), "--metrics-listen", tokens.metrics)
    with ServerProcess(*flags, *IN_THREADS) as tokens.server:
        yield tokens
        assert tokens.server.stop() == 0
        assert tokens.known not in tokens.server.log


def test_a_known_token_is_accepted_and_its_name_counted(tokens: Tokens) -> None:
    with Client(tokens.server.address, token=tokens.known) as client:
        assert client.predict(IMAGE).findings
        assert client.explain(IMAGE).explanations
    counted = scrape(tokens.metrics)
    assert counted['cxr_caller_calls_total{caller="ward-3"}'] >= 2


@pytest.mark.parametrize(
    "header",
    [
        None,
        "",
        "Bearer",
        "Bearer ",
        "Bearer wrong",
        "Basic {known}",
        "{known}",
        "Bearer {known}x",
        "Bearer {hash}",
        "Bearer {known} {known}",
        "Bearer " + "x" * 4000,
    ],
)
def test_any_other_header_is_refused(tokens: Tokens, header: str | None) -> None:
    digest = hashlib.sha256(tokens.known.encode()).hexdigest()
    metadata = []
    if header is not None:
        metadata = [("authorization", header.format(known=tokens.known, hash=digest))]
    with grpc.insecure_channel(tokens.server.address) as channel:
        stub = ChestXrayServiceStub(channel)
        calls = [
            lambda: stub.Predict(pb.PredictRequest(image=IMAGE), metadata=metadata),
            lambda: stub.DescribeModel(pb.DescribeModelRequest(), metadata=metadata),
        ]
        for call in calls:
            with pytest.raises(grpc.RpcError) as caught:
                call()
            assert caught.value.code() is grpc.StatusCode.UNAUTHENTICATED
            assert reason_of(caught.value) == "UNAUTHENTICATED"
            assert caught.value.details() == "A valid bearer token is required."


async def test_a_call_without_a_token_is_refused_before_the_upload(tokens: Tokens) -> None:
    async def nothing() -> AsyncIterator[bytes]:
        await asyncio.Event().wait()
        yield b""

    async with grpc.aio.insecure_channel(tokens.server.address) as channel:
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            async with asyncio.timeout(60):
                await channel.stream_unary(PREDICT)(nothing())
    assert reason_of(caught.value) == "UNAUTHENTICATED"


def test_the_standard_health_service_is_open_and_reflection_is_not(tokens: Tokens) -> None:
    asking = reflection_pb2.ServerReflectionRequest(list_services="")
    with grpc.insecure_channel(tokens.server.address) as channel:
        check = health_pb2_grpc.HealthStub(channel).Check
        assert check(health_pb2.HealthCheckRequest()).status == SERVING
        reflect = reflection_pb2_grpc.ServerReflectionStub(channel).ServerReflectionInfo
        with pytest.raises(grpc.RpcError) as caught:
            list(reflect(iter([asking])))
        assert caught.value.code() is grpc.StatusCode.UNAUTHENTICATED
        metadata = (("authorization", f"Bearer {tokens.known}"),)
        answers = list(reflect(iter([asking]), metadata=metadata))
        assert answers[0].list_services_response.service


@pytest.mark.slow
async def test_tokens_change_without_a_restart_and_a_broken_file_changes_nothing(
    tokens: Tokens,
) -> None:
    before = tokens.file.read_text()
    fresh, line = new_token("night.shift")
    address = tokens.server.address
    async with (
        AsyncClient(address, token=fresh) as late,
        AsyncClient(address, token=tokens.known) as early,
    ):
        with pytest.raises(UnauthenticatedError):
            await late.predict(IMAGE)
        tokens.file.write_text(line + "\n")
        await until_answered(late)
        with pytest.raises(UnauthenticatedError):
            await early.predict(IMAGE)
        tokens.file.write_text("night.shift:not-a-hash\n")
        while "tokens kept" not in tokens.server.log:  # the file is read again by a call
            assert (await late.predict(IMAGE)).findings
        assert (await late.predict(IMAGE)).findings
        tokens.file.write_text(before)
        await until_answered(early)
        with pytest.raises(UnauthenticatedError):
            await late.predict(IMAGE)
    assert fresh not in tokens.server.log


def test_a_missing_file_changes_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(access, "RELOAD_S", 0.0)
    known, line = new_token("ward-3")
    file = tmp_path / "tokens"
    file.write_text(line)
    tokens = access.Access(str(file))
    file.unlink()
    assert tokens.check(f"Bearer {known}") == "ward-3"
    assert tokens.check(f"Bearer {known}\n") == "ward-3"  # as files of secrets often end
    other, line = new_token("ward-4")
    file.write_text(line)
    assert tokens.check(f"Bearer {other}") == "ward-4"
    with pytest.raises(Unauthenticated):
        tokens.check(f"Bearer {known}")


# --- TLS ---


class Secured:
    """A server under mutual TLS, with a plaintext port for probes."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.authority = Authority(folder / "ca", "hospital CA")
        self.certificate, self.key = self.authority.sign(folder / "server", "first")
        self.client = self.authority.sign(folder / "client", "viewer")
        self.probes = f"127.0.0.1:{free_port()}"
        self.server: ServerProcess

    def tls(self) -> dict[str, Path]:
        certificate, key = self.client
        return {"ca": self.authority.certificate, "cert": certificate, "key": key}


@pytest.fixture(scope="module")
def secured(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Secured]:
    secured = Secured(tmp_path_factory.mktemp("tls"))
    flags = (
        *("--tls-cert", str(secured.certificate), "--tls-key", str(secured.key)),
        *("--tls-client-ca", str(secured.authority.certificate)),
        *("--health-listen", secured.probes),
    )
    with ServerProcess(*flags, *IN_THREADS) as secured.server:
        yield secured
        assert secured.server.stop() == 0


def test_mutual_tls_accepts_clients_that_the_ca_signed(secured: Secured) -> None:
    with Client(secured.server.address, tls=TLSConfig(**secured.tls())) as client:
        assert client.predict(IMAGE).findings


def test_mutual_tls_refuses_all_other_clients(secured: Secured) -> None:
    address = secured.server.address
    stranger = Authority(secured.folder / "other-ca", "another CA")
    cert, key = stranger.sign(secured.folder / "stranger", "viewer")
    ca = secured.authority.certificate
    once = RetryConfig(max_attempts=1)
    for tls in (
        TLSConfig(ca=ca),
        TLSConfig(ca=ca, cert=cert, key=key),
        TLSConfig(**{**secured.tls(), "ca": stranger.certificate}),  # trusts another CA
        TLSConfig(),
        None,
    ):
        with Client(address, timeout_s=2, retry=once, tls=tls) as client:
            with pytest.raises(CxrError) as caught:
                client.predict(IMAGE)
            assert caught.value.code in (
                grpc.StatusCode.UNAVAILABLE,
                grpc.StatusCode.DEADLINE_EXCEEDED,
            )


def test_probes_reach_health_and_nothing_else_in_plaintext(secured: Secured) -> None:
    with grpc.insecure_channel(secured.probes) as channel:
        check = health_pb2_grpc.HealthStub(channel).Check
        assert check(health_pb2.HealthCheckRequest()).status == SERVING
        with pytest.raises(grpc.RpcError) as caught:
            ChestXrayServiceStub(channel).Predict(pb.PredictRequest(image=IMAGE))
        assert caught.value.code() is grpc.StatusCode.UNIMPLEMENTED


def common_name(address: str, files: dict[str, Path]) -> str:
    """Return the common name of the certificate that the server uses now."""
    import socket

    context = ssl.create_default_context(cafile=files["ca"])
    context.load_cert_chain(files["cert"], files["key"])
    context.set_alpn_protocols(["h2"])
    host, _, port = address.rpartition(":")
    with (
        socket.create_connection((host, int(port)), timeout=60) as plain,
        context.wrap_socket(plain, server_hostname=host) as tls,
    ):
        shown = x509.load_der_x509_certificate(tls.getpeercert(binary_form=True) or b"")
    return str(shown.subject.get_attributes_for_oid(NameOID.COMMON_NAME)[0].value)


@pytest.mark.slow
async def test_certificates_change_without_a_restart(secured: Secured) -> None:
    address, files = secured.server.address, secured.tls()
    tls = TLSConfig(**files)
    async with AsyncClient(address, tls=tls) as client:
        assert (await client.predict(IMAGE)).findings
        assert await asyncio.to_thread(common_name, address, files) == "first"
        secured.authority.sign(secured.folder / "server", "second")
        async with asyncio.timeout(60):
            while await asyncio.to_thread(common_name, address, files) != "second":
                await asyncio.sleep(0.2)
        assert (await client.predict(IMAGE)).findings  # the open connection goes on
    async with AsyncClient(address, tls=tls) as client:
        assert (await client.predict(IMAGE)).findings
    secured.certificate.write_bytes(b"no certificate")
    while "holds no CERTIFICATE: it is not a PEM file" not in secured.server.log:
        assert await asyncio.to_thread(common_name, address, files) == "second"
    async with AsyncClient(address, tls=tls) as client:  # a broken file changes nothing
        assert (await client.predict(IMAGE)).findings
    secured.authority.sign(secured.folder / "server", "third")


@pytest.mark.slow
def test_server_tls_and_tokens_work_together(tmp_path: Path) -> None:
    authority = Authority(tmp_path / "ca", "hospital CA")
    certificate, key = authority.sign(tmp_path / "server", "server")
    token, line = new_token("viewer")
    (tmp_path / "tokens").write_text(line)
    flags = ("--tls-cert", str(certificate), "--tls-key", str(key))
    with ServerProcess(*flags, "--tokens-file", str(tmp_path / "tokens")) as server:
        tls = TLSConfig(ca=authority.certificate)
        with Client(server.address, tls=tls, token=token) as client:
            assert client.predict(IMAGE).findings
        with (
            Client(server.address, tls=tls) as client,
            pytest.raises(UnauthenticatedError),
        ):
            client.predict(IMAGE)
        assert server.stop() == 0
        assert token not in server.log


# --- what is allowed to start ---


@pytest.mark.parametrize("address", ["0.0.0.0:0", "[::]:0", "192.0.2.1:50051", "example.org:443"])
def test_plaintext_beyond_loopback_needs_the_insecure_flag(address: str) -> None:
    with pytest.raises(SettingsError, match="insecure"):
        parse(["--listen", address], env={})
    assert parse(["--listen", address, "--insecure"], env={}).insecure
    assert parse(["--listen", address], env={"CXR_INSECURE": "true"}).insecure


@pytest.mark.parametrize("address", ["127.0.0.1:0", "localhost:1", "[::1]:0", "127.8.9.1:2"])
def test_plaintext_on_loopback_needs_no_flag(address: str) -> None:
    assert parse(["--listen", address], env={}).listen == address
    assert parse([], env={}).listen == "127.0.0.1:50051"


@pytest.mark.parametrize("address", ["127.evil.example:1", "localhost.evil.example:1"])
def test_a_name_that_looks_like_loopback_is_not(address: str) -> None:
    with pytest.raises(SettingsError, match="insecure"):
        parse(["--listen", address], env={})


def test_incomplete_tls_settings_are_refused(secured: Secured) -> None:
    for flags in (
        ["--tls-cert", str(secured.certificate)],
        ["--tls-key", str(secured.key)],
        ["--tls-client-ca", str(secured.authority.certificate)],
    ):
        with pytest.raises(SettingsError):
            parse(flags, env={})
