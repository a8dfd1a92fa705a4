"""Fields: strict reading of `model.json`, one field at a time. Next: manifest.

JSON from outside is never trusted to have a type, a range or a single reading: a field read
twice, never or under two names is an error here.
"""

import json
import math
import re
from collections.abc import Iterator
from datetime import datetime
from typing import Any, NoReturn

MAX_TEXT = 10_000
IDENTIFIER = re.compile(r"[A-Za-z0-9][A-Za-z0-9._+-]{0,127}")
_SHA256 = re.compile(r"[0-9a-f]{64}")
_TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ")


class BundleError(Exception):
    """A bundle that is not served. The message says what is wrong with which file."""


class Fields:
    """A JSON object whose fields are taken out one by one, each checked."""

    def __init__(self, where: str, content: object) -> None:
        if not isinstance(content, dict):
            raise BundleError(f"{where} must be an object")
        self._where = where
        self._content: dict[str, Any] = dict(content)

    @classmethod
    def parse(cls, text: str) -> "Fields":
        """Parse JSON text; refuses duplicate keys, NaN and infinities."""
        try:
            content = json.loads(text, object_pairs_hook=_unique, parse_constant=_no_constant)
        except (ValueError, RecursionError) as error:
            raise BundleError("model.json is not valid JSON") from error
        return cls("model.json", content)

    def is_null(self, key: str) -> bool:
        """Take a field whose value is null; leave any other."""
        if key in self._content and self._content[key] is None:
            del self._content[key]
            return True
        return False

    def child(self, key: str) -> "Fields":
        """Take an object."""
        return Fields(f"{self._where}: {key}", self._take(key))

    def children(self, key: str) -> Iterator[tuple[str, "Fields"]]:
        """Take an object of objects, with its keys."""
        inner = self.child(key)
        for name, content in inner._content.items():
            yield name, Fields(f"{inner._where}: {name}", content)

    def text(self, key: str) -> str:
        """Take a string of at most `MAX_TEXT` characters."""
        return self._text(key, self._take(key))

    def texts(self, key: str, least: int, most: int) -> tuple[str, ...]:
        """Take `least` to `most` strings, none of them empty."""
        values = tuple(self._text(key, value) for value in self._list(key, None))
        if not least <= len(values) <= most or not all(values):
            self._fail(key, f"must be {least} to {most} strings, none empty")
        return values

    def identifier(self, key: str) -> str:
        """Take a short name of letters, digits, '.', '_', '+' and '-'."""
        return self._match(key, IDENTIFIER, "a short name")

    def sha256(self, key: str) -> str:
        """Take a SHA-256 in lower-case hex."""
        return self._match(key, _SHA256, "a SHA-256 in lower-case hex")

    def time(self, key: str) -> str:
        """Take a time in UTC such as 2026-01-31T12:00:00Z."""
        value = self._match(key, _TIME, "a time such as 2026-01-31T12:00:00Z")
        try:
            datetime.fromisoformat(value)
        except ValueError:
            self._fail(key, "must be a time that exists")
        return value

    def choice(self, key: str, choices: tuple[str, ...]) -> str:
        """Take one of `choices`."""
        value = self.text(key)
        if value not in choices:
            self._fail(key, f"must be one of {', '.join(choices)}")
        return value

    def boolean(self, key: str) -> bool:
        """Take true or false."""
        value = self._take(key)
        if not isinstance(value, bool):
            self._fail(key, "must be true or false")
        return value

    def integer(self, key: str, least: int, most: int) -> int:
        """Take an integer in [least, most]."""
        return self._integer(key, self._take(key), least, most)

    def integers(self, key: str, count: int | None, least: int, most: int) -> tuple[int, ...]:
        """Take `count` integers in [least, most]; 1 to 64 of them for None."""
        values = self._list(key, count)
        if count is None and not 1 <= len(values) <= 64:
            self._fail(key, "must be 1 to 64 integers")
        return tuple(self._integer(key, value, least, most) for value in values)

    def numbers(self, key: str, count: int, least: float, most: float) -> tuple[float, ...]:
        """Take `count` finite numbers in [least, most]."""
        values = self._list(key, count)
        for value in values:
            number = isinstance(value, float) and math.isfinite(value)
            if not number or not least <= value <= most:
                self._fail(key, f"must be {count} decimal numbers from {least:g} to {most:g}")
        return tuple(values)

    def nothing_more(self) -> None:
        """Refuse fields that nobody asked for."""
        if self._content:
            raise BundleError(f"{self._where} has unknown fields")

    def _take(self, key: str) -> Any:
        if key not in self._content:
            raise BundleError(f"{self._where} has no field {key}")
        return self._content.pop(key)

    def _list(self, key: str, count: int | None) -> list[Any]:
        values = self._take(key)
        if not isinstance(values, list) or count not in (None, len(values)):
            self._fail(key, "must be a list" + (f" of {count}" if count is not None else ""))
        return values

    def _text(self, key: str, value: object) -> str:
        if not isinstance(value, str) or len(value) > MAX_TEXT or not value.isprintable():
            self._fail(key, "must be one line of text")
        return value

    def _integer(self, key: str, value: object, least: int, most: int) -> int:
        if not isinstance(value, int) or isinstance(value, bool) or not least <= value <= most:
            self._fail(key, f"must be an integer from {least} to {most}")
        return value

    def _match(self, key: str, pattern: re.Pattern[str], wanted: str) -> str:
        value = self._take(key)
        if not isinstance(value, str) or not pattern.fullmatch(value):
            self._fail(key, f"must be {wanted}")
        return value

    def _fail(self, key: str, rule: str) -> NoReturn:
        raise BundleError(f"{self._where}: {key} {rule}")


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    content = dict(pairs)
    if len(content) < len(pairs):
        raise ValueError("duplicate key")
    return content


def _no_constant(_: str) -> NoReturn:
    raise ValueError("NaN and infinities are not JSON")
