"""The rows of docs/metrics.md as a server exports them. Prints them: python tests/metrics_table.py.

Needs `tests` in PYTHONPATH.
"""

import asyncio
import re
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from urllib.error import HTTPError
from urllib.request import urlopen

import grpc
from prometheus_client.parser import text_string_to_metric_families

from authority import Authority
from cxr.v1 import chest_xray_pb2 as pb
from cxr.v1.chest_xray_pb2_grpc import ChestXrayServiceStub
from cxr_server.access import new_token
from cxr_server.app import App
from cxr_server.settings import parse
from trust.ports import free_port

PAGE = Path(__file__).parents[1] / "docs" / "metrics.md"
UNITS = {"seconds": "s", "bytes": "bytes", "images": "images"}
OF_SAMPLES = {"le"}


class Exporting:
    """A server in this process, with what metrics depend on: mutual TLS and tokens."""

    def __init__(self, folder: Path) -> None:
        self.files = Authority(folder).folder
        self.token, line = new_token("ward-3")
        (folder / "tokens").write_text(line)
        self.address = f"127.0.0.1:{free_port()}"
        flags = ["--listen", "127.0.0.1:0", "--metrics-listen", self.address]
        flags += ["--tls-cert", str(folder / "server.pem"), "--tls-key", str(folder / "server.key")]
        flags += ["--tls-client-ca", str(folder / "ca.pem")]
        flags += ["--tokens-file", str(folder / "tokens"), "--decode-processes", "0"]
        self.app = App(parse(flags, env={}))

    async def get(self, path: str) -> tuple[int, str]:
        """Status and body of a page of the metrics port."""
        return await asyncio.to_thread(self._get, path)

    def _get(self, path: str) -> tuple[int, str]:
        try:
            with urlopen(f"http://{self.address}{path}", timeout=30) as page:
                return page.status, page.read().decode()
        except HTTPError as error:
            return error.code, error.read().decode()

    @asynccontextmanager
    async def stub(self) -> AsyncIterator[ChestXrayServiceStub]:
        """A stub on it; calls need the `metadata` of a token."""
        names = ("ca.pem", "client.key", "client.pem")
        own = grpc.ssl_channel_credentials(*((self.files / name).read_bytes() for name in names))
        async with grpc.aio.secure_channel(f"127.0.0.1:{self.app.port}", own) as channel:
            yield ChestXrayServiceStub(channel)

    @property
    def metadata(self) -> tuple[tuple[str, str], ...]:
        return (("authorization", f"Bearer {self.token}"),)


def rows(exposition: str) -> list[str]:
    """A row for each family: name, type, labels, unit, help text."""
    found = []
    for family in text_string_to_metric_families(exposition):
        name = family.name + ("_total" if family.type == "counter" else "")
        labels = sorted({label for sample in family.samples for label in sample.labels})
        told = ", ".join(f"`{label}`" for label in labels if label not in OF_SAMPLES)
        unit = next((UNITS[word] for word in family.name.split("_") if word in UNITS), "")
        found.append(f"| `{name}` | {family.type} | {told} | {unit} | {family.documentation} |")
    return found


def rows_in_page() -> list[str]:
    """The rows of all tables of docs/metrics.md."""
    return [line for line in PAGE.read_text().splitlines() if re.match(r"\| `\w", line)]


async def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        exporting = Exporting(Path(folder))
        await exporting.app.start()
        await exporting.app.load()
        async with exporting.stub() as stub:
            await stub.DescribeModel(pb.DescribeModelRequest(), metadata=exporting.metadata)
        print("\n".join(rows((await exporting.get("/metrics"))[1])))
        await exporting.app.close()


if __name__ == "__main__":
    asyncio.run(main())
