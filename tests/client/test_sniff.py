"""What the first bytes of a file tell the client."""

from io import BytesIO

import pytest

from cxr_client.cli.sniff import is_heatmap, kind_of

PNG = b"\x89PNG\r\n\x1a\n"


def chunk(kind: bytes, data: bytes) -> bytes:
    return len(data).to_bytes(4) + kind + data + bytes(4)


def segment(marker: int, data: bytes) -> bytes:
    return bytes([0xFF, marker]) + (len(data) + 2).to_bytes(2) + data


HEADER = chunk(b"IHDR", bytes(13))
MARK = chunk(b"tEXt", b"cxr-serve\0{}")
COMMENT = segment(0xFE, b"cxr-serve {}")
APP0 = segment(0xE0, b"JFIF\0")


@pytest.mark.parametrize(
    "data",
    [
        PNG + HEADER + MARK,
        PNG + HEADER + chunk(b"iCCP", bytes(50)) + MARK,
        PNG + HEADER + chunk(b"iCCP", bytes(500_000)) + MARK,
        PNG + HEADER + chunk(b"IDAT", bytes(8192)) * 1000 + MARK,
        # What other programs make of the text.
        PNG + HEADER + chunk(b"zTXt", b"cxr-serve\0\0{}"),
        PNG + HEADER + chunk(b"iTXt", b"cxr-serve\0\0\0\0\0{}"),
        # A program that saves it again may put the text behind the pixels.
        PNG + HEADER + chunk(b"IDAT", bytes(50)) + MARK + chunk(b"IEND", b""),
        b"\xff\xd8" + COMMENT,
        b"\xff\xd8" + APP0 + COMMENT,
        b"\xff\xd8" + segment(0xE2, bytes(60_000)) * 3 + COMMENT,  # Behind a colour profile.
        b"\xff\xd8" + APP0 + b"\xff" + COMMENT,  # With a fill byte.
    ],
)
def test_a_picture_with_the_mark_is_ours(data: bytes) -> None:
    assert is_heatmap(BytesIO(data))


@pytest.mark.parametrize(
    "data",
    [
        b"",
        PNG,
        PNG + HEADER + chunk(b"tEXt", b"Comment\0cxr-serve"),
        PNG + HEADER + chunk(b"tEXt", b"cxr-server\0{}"),
        PNG + HEADER + chunk(b"IDAT", MARK),
        PNG + HEADER + b"\xff\xff\xff\xfftEXt",
        b"\xff\xd8",
        b"\xff\xd8\xff",
        b"\xff\xd8" + APP0 + segment(0xFE, b"made by cxr-serve {}"),
        b"\xff\xd8" + APP0 + segment(0xDA, bytes(10)) + COMMENT,
        b"\xff\xd8\xff\xfe\0\0" * 3,
        b"GIF89a" + MARK,
    ],
)
def test_other_files_are_not(data: bytes) -> None:
    assert not is_heatmap(BytesIO(data))


@pytest.mark.parametrize("size", range(0, 200, 7))
def test_a_file_may_end_anywhere(size: int) -> None:
    whole = PNG + HEADER + chunk(b"iCCP", bytes(150)) + MARK
    assert not is_heatmap(BytesIO(whole[:size]))
    assert kind_of(whole[:size]) == ("PNG" if size >= 8 else "other file")
