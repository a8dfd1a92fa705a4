"""Usage: a parser whose errors are one line, and the types of option values. Next: arguments."""

import argparse
import difflib
import math
import re
from collections.abc import Callable, Iterable, Sequence
from typing import Any, NoReturn

from cxr_client.enums import ContractEnum


class UsageError(Exception):
    """The command line is at fault; the message names the option as it is typed."""


class Parser(argparse.ArgumentParser):
    """A parser whose errors are one line on standard error, naming the option as it was typed.

    Abbreviations are off: "--token SECRET" would otherwise mean "--token-file SECRET".
    """

    def __init__(self, **options: Any) -> None:
        style = argparse.RawDescriptionHelpFormatter
        super().__init__(formatter_class=style, allow_abbrev=False, **options)

    def error(self, message: str) -> NoReturn:
        """End with status 2 and the message."""
        line = re.sub(r"\bargument (?=-|\w+:)", "", message)
        self.exit(2, f"{self.prog.split()[0]}: {line} (see {self.prog} --help)\n")

    @property
    def options(self) -> list[argparse.Action]:
        """The options, in the order of the help."""
        return [action for action in self._actions if action.option_strings]

    @property
    def positionals(self) -> list[argparse.Action]:
        """The arguments that are not options."""
        return [action for action in self._actions if not action.option_strings]


def refuse_unknown(parser: Parser, words: Sequence[str]) -> NoReturn:
    """End for an option that does not exist. Its value is not printed: it may be a secret."""
    word = words[0].partition("=")[0]
    if not word.startswith("-"):
        parser.error(f'"{word}" is one argument too many')
    known = [name for option in parser.options for name in option.option_strings]
    parser.error(f"there is no option {word}{nearest(word, known)}")


def nearest(word: str, known: Iterable[str]) -> str:
    """Return "; did you mean X?" with the most similar known word, or ""."""
    by_lower = {each.lower(): each for each in known}
    close = difflib.get_close_matches(word.lower(), by_lower, n=1)
    return f"; did you mean {by_lower[close[0]]}?" if close else ""


def one_of(enum: type[ContractEnum]) -> Callable[[str], str]:
    """Return the type of an option whose value is a member of an enum."""

    def spelled(text: str) -> str:
        name = text.upper().replace("-", "_")
        if name not in enum.choices():
            choices = ", ".join(enum.choices())
            wrong = f'"{text}" is not one of {choices}{nearest(name, enum.choices())}'
            raise argparse.ArgumentTypeError(wrong)
        return name

    return spelled


def whole(text: str) -> int:
    """Return a whole number of at least 1."""
    return _whole(text, 1)


def whole_from_0(text: str) -> int:
    """Return a whole number of at least 0."""
    return _whole(text, 0)


def _whole(text: str, least: int) -> int:
    try:
        number = int(text)
    except ValueError:
        number = least - 1
    if number < least:
        raise argparse.ArgumentTypeError(f'"{text}" is not a whole number of at least {least}')
    return number


def port(text: str) -> int:
    """Return the number of a port; 0 is any."""
    if not (text.isascii() and text.isdigit() and int(text) <= 65_535):
        raise argparse.ArgumentTypeError(f'"{text}" is not a number from 0 to 65535')
    return int(text)


def host_name(text: str) -> str:
    """Return the name of a host."""
    if not re.fullmatch(r"[A-Za-z0-9._-]+", text):
        wrong = f'"{text}" is not the name of a host, without scheme and port'
        raise argparse.ArgumentTypeError(wrong)
    return text


def whole_or_all(text: str) -> int:
    """Return a whole number of at least 1; for "all", the largest that the contract takes."""
    if text.lower() == "all":
        return ALL
    try:
        return whole(text)
    except argparse.ArgumentTypeError as error:
        raise argparse.ArgumentTypeError(f'{error}, and not "all"') from None


ALL = 2**31 - 1
"""More findings than any model has."""


def number(text: str) -> float:
    """Return a finite number."""
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise argparse.ArgumentTypeError(f'"{text}" is not a number')
    return value


def pair(text: str) -> tuple[str, str]:
    """Read NAME=VALUE."""
    name, is_there, value = text.partition("=")
    if not is_there:
        raise argparse.ArgumentTypeError(f'"{text}" is not NAME=VALUE')
    return name, value


def seconds(text: str) -> float:
    """Return a positive number of seconds."""
    try:
        value = number(text)
    except argparse.ArgumentTypeError:
        value = 0
    if value <= 0:
        raise argparse.ArgumentTypeError(f'"{text}" is not a positive number of seconds')
    return value
