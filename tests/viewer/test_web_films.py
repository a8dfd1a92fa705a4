"""The films of `cxr view`: a folder as `cxr predict` finds it, named by ids alone."""

import asyncio
import os
import re
import threading
from collections.abc import Iterator
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest

from cxr_client.cli.files import search
from cxr_client.testing import FakeServer
from cxr_client.viewer.failures import Refusal
from cxr_client.viewer.films import Film, Films
from cxr_server.bundles.store import SAMPLES_PATH
from viewer_process import ViewerProcess

PNG = b"\x89PNG\r\n\x1a\n"
DICOM = bytes(128) + b"DICM"
REPORT = DICOM + b"\2\0\2\0UI\x1e\0" + b"1.2.840.10008.5.1.4.1.1.88.34\0"
SECRET = b"secret of another folder"


@pytest.fixture(scope="module")
def fake() -> Iterator[FakeServer]:
    with FakeServer() as server:
        yield server


def make_folder(parent: Path) -> Path:
    """Films in folders, beside files that are none and links that lead out of it."""
    root = parent / "Miller Ann"
    images = {
        "b.png": PNG + b"1",
        "series/10": DICOM + b"2",
        "series/a #1?.JPG": b"\xff\xd8\xff3",
        "scan": DICOM + b"4",
    }
    for name, content in images.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(content)
    (root / "report.dcm").write_bytes(REPORT)
    (root / "notes.txt").write_bytes(SECRET)
    (root / ".hidden.png").write_bytes(PNG)
    outside = parent / "outside"
    outside.mkdir()
    (outside / "other.png").write_bytes(PNG + SECRET)
    (outside / "passwords").write_bytes(SECRET)
    (root / "linked").symlink_to(outside)
    (root / "named.png").symlink_to(outside / "passwords")
    return root


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder that stays as it is."""
    return make_folder(tmp_path_factory.mktemp("films"))


@pytest.fixture(scope="module")
def page(fake: FakeServer, folder: Path) -> Iterator[ViewerProcess]:
    """The page of that folder."""
    with ViewerProcess(fake.address, folder) as page:
        yield page


def films(page: ViewerProcess) -> dict[str, str]:
    """Ids of the films of the folder, by name."""
    listed = page.ask("api/state").json["films"]
    return {film["name"]: film["id"] for film in listed if film["group"] == "folder"}


@pytest.mark.parametrize("follow", [False, True])
def test_the_films_are_those_that_predict_finds(
    fake: FakeServer, folder: Path, follow: bool
) -> None:
    found = search([str(folder)], follow=follow, max_bytes=1)
    expected = [Path(job.name).relative_to(folder).as_posix() for job in found.jobs]
    with ViewerProcess(fake.address, folder, *["--follow"] * follow) as page:
        assert list(films(page)) == expected
    assert ("linked/other.png" in expected) == follow


def test_a_single_file_is_a_film(fake: FakeServer, folder: Path) -> None:
    with ViewerProcess(fake.address, folder / "b.png") as page:
        assert list(films(page)) == ["b.png"]


def test_a_folder_without_films_is_told_of_once_and_in_the_page(
    fake: FakeServer, tmp_path: Path
) -> None:
    (tmp_path / "notes.txt").write_text("no film")
    with ViewerProcess(fake.address, tmp_path) as page:
        assert page.ask("api/state").json["folder_is_empty"]
        assert page.ask("api/state").json["folder_is_empty"]
        assert page.log.count("the folder has no DICOM, PNG or JPEG files; skipped: 1") == 1


def test_a_film_is_downloaded_under_its_name(page: ViewerProcess) -> None:
    answer = page.ask(f"api/films/{films(page)['series/a #1?.JPG']}")
    assert answer.body == b"\xff\xd8\xff3"
    disposition = answer.headers["content-disposition"]
    assert disposition == "attachment; filename*=utf-8''a%20%231%3F.JPG"


def test_nothing_but_images_leaves_the_folder(page: ViewerProcess, fake: FakeServer) -> None:
    listed = films(page)
    assert "notes.txt" not in listed
    before = len(fake.calls)
    for path, body in (("", None), ("/thumbnail", None), ("/explanation", b"")):
        answer = page.ask(f"api/films/{listed['named.png']}{path}", body)
        assert answer.reason == "IMAGE_FORMAT_UNSUPPORTED"
        assert SECRET not in answer.body
    assert "Explain" not in [call.rpc for call in fake.calls[before:]]


@pytest.mark.parametrize(
    "film",
    ["b.png", "..%2foutside%2fpasswords", "%2fetc%2fpasswd", "0" * 24, "", "Miller%20Ann%2fb.png"],
)
def test_a_film_has_no_other_name_than_its_id(page: ViewerProcess, film: str) -> None:
    for path in ("", "/thumbnail"):
        answer = page.ask(f"api/films/{film}{path}")
        assert answer.status == 404 or answer.reason == "FILM_UNKNOWN"


def test_names_of_files_and_folders_are_neither_logged_nor_told_beyond_the_folder(
    fake: FakeServer, tmp_path: Path
) -> None:
    folder = make_folder(tmp_path)
    with ViewerProcess(fake.address, folder) as page:
        listed = films(page)
        assert all(re.fullmatch("[0-9a-f]{24}", film) for film in listed.values())
        answers = [page.ask("api/state")]
        for film in listed.values():
            answers += [
                page.ask(f"api/films/{film}"),
                page.ask(f"api/films/{film}/explanation", b""),
            ]
        (folder / "b.png").unlink()
        gone = page.ask(f"api/films/{listed['b.png']}/explanation", b"")
        assert gone.reason == "FILE_UNREADABLE"
        assert page.stop() == 0
        log = page.log
    assert not [name for name in (*listed, "Miller", "b.png") if name in log]
    for answer in (*answers, gone):
        assert b"Miller" not in answer.body
        assert str(folder.parent) not in str(answer.headers)


def test_ids_differ_from_process_to_process(
    page: ViewerProcess, fake: FakeServer, folder: Path
) -> None:
    with ViewerProcess(fake.address, folder) as other:
        assert films(other).keys() == films(page).keys()
        assert films(other)["b.png"] != films(page)["b.png"]


def test_a_name_that_is_not_utf_8_is_listed(fake: FakeServer, tmp_path: Path) -> None:
    (tmp_path / os.fsdecode(b"M\xfcller.png")).write_bytes(PNG)
    with ViewerProcess(fake.address, tmp_path) as page:
        ((name, film),) = films(page).items()
        assert name == "M\N{REPLACEMENT CHARACTER}ller.png"
        assert page.ask(f"api/films/{film}").body == PNG


def test_the_samples_are_those_of_the_server(page: ViewerProcess) -> None:
    drawn = {file.name: sha256(file.read_bytes()).digest() for file in SAMPLES_PATH.iterdir()}
    films = page.ask("api/state").json["films"]
    samples = [film for film in films if film["group"] == "sample"]
    assert len(samples) == 3
    for film in samples:
        body = page.ask(f"api/films/{film['id']}").body
        assert sha256(body).digest() == drawn[film["name"]]


def test_more_than_a_thousand_films_are_listed(fake: FakeServer, tmp_path: Path) -> None:
    for number in range(1500):
        (tmp_path / f"{number:04}").write_bytes(DICOM)
    with ViewerProcess(fake.address, tmp_path) as page:
        listed = films(page)
        while len(listed) < 1500:  # The search may still be running.
            listed = films(page)
        assert page.ask(f"api/films/{listed['1499']}").body == DICOM


def a_film(name: str, version: str = "") -> Film:
    return Film(name, "folder", version, lambda _: b"")


async def names(films: Films) -> list[str]:
    return [film["name"] for film in await films.listed() if film["group"] == "folder"]


@pytest.mark.slow
async def test_a_folder_that_takes_long_to_search_does_not_hold_up_the_page() -> None:
    end = threading.Event()

    def search() -> list[Film]:
        assert end.wait(60)
        return [a_film("late.png")]

    films = Films(search)
    try:
        other = asyncio.create_task(asyncio.sleep(0))
        assert await names(films) == []
        assert other.done()
    finally:
        end.set()
    async with asyncio.timeout(60):
        while await names(films) == []:
            await asyncio.sleep(0.01)
    assert await names(films) == ["late.png"]


@pytest.mark.slow
def test_a_folder_that_hangs_does_not_keep_the_program_from_ending() -> None:
    end = threading.Event()

    def search() -> list[Film]:
        end.wait()
        return []

    try:
        assert asyncio.run(names(Films(search))) == []
    finally:
        end.set()


async def test_a_folder_is_searched_once_for_many_questions() -> None:
    searches: list[None] = []

    def search() -> list[Film]:
        searches.append(None)
        return [a_film("film.png")]

    films = Films(search)
    assert await asyncio.gather(*(names(films) for _ in range(20))) == [["film.png"]] * 20
    assert len(searches) == 1


async def test_a_folder_that_cannot_be_searched_is_empty() -> None:
    def search() -> list[Film]:
        raise PermissionError("no")

    assert await names(Films(search)) == []


async def test_a_film_that_has_changed_is_another_one() -> None:
    films = Films(lambda: [a_film("film.png", "1")])
    assert await names(films) == ["film.png"]
    assert films[a_film("film.png", "1").id].name == "film.png"
    with pytest.raises(Refusal):
        films[a_film("film.png", "2").id]


async def test_a_film_is_read_in_a_thread() -> None:
    def load(max_bytes: int) -> bytes:
        assert threading.current_thread() is not threading.main_thread()
        return bytes(max_bytes)

    film: Any = Film("film.png", "folder", "", load)
    assert await film.read(3) == bytes(3)
