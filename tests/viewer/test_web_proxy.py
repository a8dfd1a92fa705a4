"""The page of `cxr view` behind a proxy that serves it under a prefix and another name."""

import json
import re
from urllib.parse import urljoin
from urllib.request import Request, urlopen

from cxr_client.testing import FakeServer
from prefix_proxy import prefix_proxy
from viewer_process import ViewerProcess

HOST = "films.example.org"
OWN = {"Host": HOST, "Sec-Fetch-Site": "same-origin"}


def fetch(url: str, body: bytes | None = None) -> tuple[str, bytes]:
    """Return type and body of what a browser gets."""
    with urlopen(Request(url, body, OWN), timeout=100) as answer:
        return answer.headers["content-type"], answer.read()


def test_everything_works_under_a_prefix(fake: FakeServer) -> None:
    with (
        ViewerProcess(fake.address, "--allowed-host", HOST) as page,
        prefix_proxy(page.url, "/all/films/") as url,
    ):
        _, html = fetch(url)
        links = re.findall(r'(?:src|href)="([^"#]+)"', html.decode())
        assert len(links) >= 3
        for link in links:
            assert urljoin(url, link).startswith(url)
            assert fetch(urljoin(url, link))[1]
        state = json.loads(fetch(f"{url}api/state")[1])
        assert state["server"]["state"] == "serving"
        film = state["films"][0]["id"]
        assert fetch(f"{url}api/films/{film}/thumbnail")[0] == "image/png"
        answer = "application/octet-stream"
        assert fetch(f"{url}api/films/{film}/explanation", b"")[0] == answer
        assert fetch(f"{url}api/explanations", b"image")[0] == answer
