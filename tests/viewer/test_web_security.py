"""The web server of `cxr view`: who is answered, and with which headers."""

from collections.abc import Iterator

import pytest

from cxr_client.testing import FakeServer
from viewer_process import ViewerProcess

HOST = "viewer.example.org"


@pytest.fixture(scope="module")
def fake() -> Iterator[FakeServer]:
    with FakeServer() as server:
        yield server


@pytest.fixture(scope="module")
def page(fake: FakeServer) -> Iterator[ViewerProcess]:
    with ViewerProcess(fake.address, "--allowed-host", HOST) as page:
        yield page


POLICY = {
    "default-src 'none'",
    "script-src 'self'",
    "style-src 'self'",
    "img-src 'self' blob:",
    "connect-src 'self'",
    "base-uri 'none'",
    "form-action 'none'",
    "frame-ancestors 'none'",
    "require-trusted-types-for 'script'",
    "trusted-types 'none'",
}


@pytest.mark.parametrize("path", ["", "api/state", "api/films/none", "none", "api/none"])
def test_every_answer_carries_the_security_headers(page: ViewerProcess, path: str) -> None:
    headers = page.ask(path).headers
    assert set(headers["content-security-policy"].split("; ")) == POLICY
    assert headers["x-content-type-options"] == "nosniff"
    assert headers["referrer-policy"] == "no-referrer"
    assert headers["cross-origin-opener-policy"] == "same-origin"
    assert headers["cross-origin-resource-policy"] == "same-origin"
    assert headers["cache-control"] == "no-store"
    assert "camera=()" in headers["permissions-policy"]


@pytest.mark.parametrize(
    "host", ["localhost", "LOCALHOST:3000", "127.0.0.1:99", "[::1]:3000", "192.0.2.7", HOST]
)
def test_the_page_answers_under_addresses_localhost_and_allowed_names(
    page: ViewerProcess, host: str
) -> None:
    assert page.ask("api/state", headers={"host": host}).status == 200


@pytest.mark.parametrize(
    "host", ["evil.example", f"evil.{HOST}", f"{HOST}.evil.example", "127.0.0.1.evil.example", ""]
)
@pytest.mark.parametrize("path", ["", "api/state"])
def test_a_name_that_is_rebound_to_this_address_is_refused(
    page: ViewerProcess, host: str, path: str
) -> None:
    answer = page.ask(path, headers={"host": host})
    assert (answer.status, answer.reason) == (403, "HOST_REFUSED")
    assert "--allowed-host" in answer.json["error"]["hint"]
    assert answer.headers["content-security-policy"]


# Another port of this machine is the same site, not the same origin.
@pytest.mark.parametrize("site", ["cross-site", "same-site"])
@pytest.mark.parametrize("path", ["", "api/state", "api/films/1/thumbnail"])
def test_another_page_cannot_load_anything(page: ViewerProcess, site: str, path: str) -> None:
    headers = {"sec-fetch-site": site, "sec-fetch-mode": "no-cors", "sec-fetch-dest": "image"}
    answer = page.ask(path, headers=headers)
    assert (answer.status, answer.reason) == (403, "SITE_REFUSED")


@pytest.mark.parametrize("site", ["cross-site", "same-site", "none"])
def test_another_page_cannot_have_an_image_explained(
    page: ViewerProcess, fake: FakeServer, site: str
) -> None:
    headers = {"sec-fetch-site": site, "sec-fetch-mode": "cors", "sec-fetch-dest": "empty"}
    answer = page.ask("api/explanations", b"image", headers=headers)
    assert (answer.status, answer.reason) == (403, "SITE_REFUSED")
    assert not [call for call in fake.calls if call.rpc == "Explain"]


def test_another_page_may_link_to_the_page_but_not_frame_it_or_link_to_its_api(
    page: ViewerProcess,
) -> None:
    headers = {"sec-fetch-site": "cross-site", "sec-fetch-mode": "navigate"}
    link, frame = ({**headers, "sec-fetch-dest": dest} for dest in ("document", "iframe"))
    assert page.ask(headers=link).status == 200
    assert page.ask(headers=frame).status == 403
    assert page.ask("api/state", headers=link).status == 403


def test_a_typed_address_is_answered(page: ViewerProcess) -> None:
    headers = {"sec-fetch-site": "none", "sec-fetch-mode": "navigate", "sec-fetch-dest": "document"}
    assert page.ask(headers=headers).status == 200


@pytest.mark.parametrize(
    ("origin", "status"),
    [
        ("http://192.0.2.7:3000", 200),
        (f"https://{HOST}", 200),  # A proxy has replaced Host.
        ("http://192.0.2.8:3000", 403),
        ("http://192.0.2.7:4000", 403),
        ("http://localhost:3000", 403),
        ("null", 403),
    ],
)
def test_without_sec_fetch_site_the_origin_must_be_the_page_s(
    page: ViewerProcess, origin: str, status: int
) -> None:
    headers = {"host": "192.0.2.7:3000", "origin": origin}
    assert page.ask("api/state", headers=headers).status == status


def test_no_method_but_those_of_the_api_is_answered(page: ViewerProcess) -> None:
    for method in ("PUT", "DELETE", "OPTIONS", "PATCH"):
        for path in ("", "api/state", "api/explanations", "api/films/1"):
            assert page.ask(path, method=method).status == 405
    assert page.ask("api/explanations").status == 405
    assert page.ask("api/state", b"image").status == 405


@pytest.mark.parametrize(
    "path", ["../app.py", "..%2fapp.py", "%2e%2e/app.py", "static/index.html", "/etc/passwd"]
)
def test_no_file_but_those_of_the_page_is_served(page: ViewerProcess, path: str) -> None:
    assert page.ask(path).status == 404
