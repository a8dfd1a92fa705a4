"""Downloads end in the right, whole file or in none, whatever the server does."""

import hashlib
import re
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest

from cxr_server.convert import download as module
from cxr_server.convert.download import DownloadError, download

CONTENT = np.random.default_rng(0).bytes(1_500_000)
SHA256 = hashlib.sha256(CONTENT).hexdigest()


class Server(ThreadingHTTPServer):
    """Serves CONTENT with the faults that a test asks for."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server_port}/weights.pt"
        self.cuts: list[int] = []  # bytes after which each of the next answers breaks off
        self.ranges = True
        self.status = 200
        self.lie = False
        self.version: str | None = '"1"'
        self.last_modified: str | None = None
        self.content = CONTENT
        self.asked: list[str | None] = []


class Handler(BaseHTTPRequestHandler):
    server: Server

    def do_GET(self) -> None:
        asked = self.headers.get("Range")
        self.server.asked.append(asked)
        if self.server.status != 200:
            self.send_error(self.server.status)
            return
        start, content = 0, self.server.content
        wanted = self.headers.get("If-Range")
        same = wanted in (None, self.server.version, self.server.last_modified)
        if asked and self.server.ranges and same:
            start = int(re.fullmatch(r"bytes=(\d+)-", asked)[1])
            if start >= len(content):
                self.send_response(416)
                self.send_header("Content-Range", f"bytes */{len(content)}")
                self.end_headers()
                return
            self.send_response(206)
            first = 0 if self.server.lie else start
            self.send_header("Content-Range", f"bytes {first}-{len(content) - 1}/{len(content)}")
        else:
            self.send_response(200)
        for header, value in {
            "ETag": self.server.version,
            "Last-Modified": self.server.last_modified,
        }.items():
            if value:
                self.send_header(header, value)
        body = content[start:]
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body[: self.server.cuts.pop(0)] if self.server.cuts else body)

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def server() -> Iterator[Server]:
    with Server() as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.05,))
        thread.start()
        yield server
        server.shutdown()
        thread.join()


@pytest.fixture
def target(tmp_path: Path) -> Path:
    return tmp_path / "new" / "weights.pt"


def part_of(target: Path) -> Path:
    return target.with_name(target.name + ".part")


def test_a_file_arrives_whole_with_its_progress(server, target):
    seen: list[tuple[int, int | None]] = []
    found = download(server.url, target, progress=lambda done, total: seen.append((done, total)))
    assert target.read_bytes() == CONTENT
    assert found == SHA256
    assert [done for done, _ in seen] == sorted({done for done, _ in seen})
    assert seen[0] == (0, len(CONTENT))
    assert seen[-1] == (len(CONTENT), len(CONTENT))
    assert list(target.parent.iterdir()) == [target]


def test_a_cut_download_goes_on_where_it_stopped(server, target):
    server.cuts = [400_000, 300_000]
    download(server.url, target, sha256=SHA256, size_bytes=len(CONTENT))
    assert target.read_bytes() == CONTENT
    assert server.asked == [None, "bytes=400000-", "bytes=700000-"]


def test_a_later_call_goes_on_where_an_earlier_one_gave_up(server, target):
    server.cuts = [100_000] * module.ATTEMPTS
    with pytest.raises(DownloadError, match="cut"):
        download(server.url, target, sha256=SHA256)
    assert not target.exists()
    assert part_of(target).read_bytes() == CONTENT[: 100_000 * module.ATTEMPTS]
    download(server.url, target, sha256=SHA256)
    assert target.read_bytes() == CONTENT
    assert server.asked[-1] == f"bytes={100_000 * module.ATTEMPTS}-"


MODIFIED = "Wed, 25 Nov 2026 07:00:00 GMT"


@pytest.mark.parametrize(("version", "modified"), [('"1"', None), ('W/"1"', MODIFIED)])
def test_a_download_of_unknown_hash_goes_on_with_the_same_version(
    server, target, version, modified
):
    server.version, server.last_modified = version, modified
    server.cuts = [400_000]
    download(server.url, target)
    assert target.read_bytes() == CONTENT
    assert server.asked == [None, "bytes=400000-"]
    assert list(target.parent.iterdir()) == [target]


@pytest.mark.parametrize("version", ['"2"', None])
def test_parts_of_two_versions_are_never_put_together(server, target, version):
    server.cuts = [400_000] * module.ATTEMPTS
    server.ranges = False  # so that no attempt gets further
    with pytest.raises(DownloadError, match="cut"):
        download(server.url, target)
    server.cuts, server.ranges, server.version = [], True, version
    server.content = CONTENT[::-1]
    assert download(server.url, target) == hashlib.sha256(CONTENT[::-1]).hexdigest()
    assert target.read_bytes() == CONTENT[::-1]


def test_without_hash_and_version_a_download_starts_over(server, target):
    server.version = None
    server.cuts = [400_000]
    download(server.url, target)
    assert target.read_bytes() == CONTENT
    assert server.asked == [None, None]


def test_a_file_with_the_right_hash_is_not_downloaded_again(server, target):
    download(server.url, target, sha256=SHA256)
    server.asked.clear()
    assert download(server.url, target, sha256=SHA256) == SHA256
    assert server.asked == []
    target.write_bytes(b"another")
    download(server.url, target, sha256=SHA256)
    assert target.read_bytes() == CONTENT


def test_a_server_without_ranges_is_started_over(server, target):
    server.ranges = False
    server.cuts = [400_000]
    download(server.url, target, sha256=SHA256, size_bytes=len(CONTENT))
    assert target.read_bytes() == CONTENT
    assert server.asked == [None, "bytes=400000-"]


def test_a_part_that_is_whole_already_is_only_checked(server, target):
    target.parent.mkdir()
    part_of(target).write_bytes(CONTENT)
    download(server.url, target, sha256=SHA256)  # size unknown: the server says 416
    assert target.read_bytes() == CONTENT
    part_of(target).write_bytes(CONTENT)
    server.asked.clear()
    download(server.url, target, sha256=SHA256, size_bytes=len(CONTENT))
    assert server.asked == []


@pytest.mark.parametrize("size", [len(CONTENT), None])
def test_a_wrong_file_is_deleted_and_named_so(server, target, size):
    with pytest.raises(DownloadError, match="SHA-256"):
        download(server.url, target, sha256="0" * 64, size_bytes=size)
    assert list(target.parent.iterdir()) == []


def test_a_broken_part_is_deleted_so_that_the_next_call_starts_anew(server, target):
    target.parent.mkdir()
    part_of(target).write_bytes(b"\0" * 1000)
    with pytest.raises(DownloadError):
        download(server.url, target, sha256=SHA256)
    download(server.url, target, sha256=SHA256)
    assert target.read_bytes() == CONTENT


@pytest.mark.parametrize("size", [1000, len(CONTENT) - 1])
def test_a_file_larger_than_expected_is_not_downloaded_to_its_end(server, target, size):
    with pytest.raises(DownloadError, match="larger"):
        download(server.url, target, size_bytes=size)
    assert list(target.parent.iterdir()) == []
    assert len(server.asked) == 1


def test_a_part_longer_than_the_file_is_thrown_away(server, target):
    target.parent.mkdir()
    part_of(target).write_bytes(CONTENT + b"more")
    download(server.url, target, sha256=SHA256, size_bytes=len(CONTENT))
    assert target.read_bytes() == CONTENT


def test_a_wrong_content_range_is_rejected(server, target):
    server.lie = True
    server.cuts = [400_000]
    with pytest.raises(DownloadError, match="another part"):
        download(server.url, target)
    assert not target.exists()


@pytest.mark.parametrize("status", [404, 403, 500, 503])
def test_an_error_of_the_server_is_reported_at_once(server, target, status):
    server.status = status
    with pytest.raises(DownloadError, match=f"answered {status}"):
        download(server.url, target)
    assert len(server.asked) == 1
    assert not target.exists()


def test_no_server_is_reported(target):
    with Server() as server:
        url = server.url
    with pytest.raises(DownloadError, match="refused"):
        download(url, target)


@pytest.mark.parametrize("url", ["file:///etc/hostname", "ftp://127.0.0.1/x", "weights.pt"])
def test_only_http_and_https_are_downloaded_from(url, target):
    with pytest.raises(DownloadError, match="http"):
        download(url, target)
