"""The README's tables as the code has them. Prints them: `python tests/readme_tables.py`."""

import re
from collections.abc import Iterator
from pathlib import Path

from cxr_server import errors
from cxr_server.settings import choices_of, env_name, options
from cxr_server.settings.sources import default_text

README = Path(__file__).parents[1] / "README.md"


def reasons() -> Iterator[type[errors.RequestError]]:
    """Every error that has a reason of its own, in the order of the module."""
    for kind in vars(errors).values():
        if (
            isinstance(kind, type)
            and issubclass(kind, errors.RequestError)
            and "reason" in vars(kind)
        ):
            yield kind


def errors_table() -> list[str]:
    rows = [
        f"| `{kind.reason}` | {kind.status} | {(kind.__doc__ or '').splitlines()[0]} |"
        for kind in reasons()
        if kind is not errors.RequestError
    ]
    return ["| Reason | Status | When |", "|---|---|---|", *rows]


def settings_table() -> list[str]:
    rows = []
    for option in options():
        flag = "--" + option.name.replace("_", "-")
        if isinstance(option.default, bool):
            default = "on" if option.default else "off"
        else:
            text = default_text(option)
            default = f"`{text}`" if text else ""
        text = option.metadata["help"]
        if choices := choices_of(option):
            text += ": " + ", ".join(choices)
        rows.append(f"| `{flag}` | `{env_name(option.name)}` | {default} | {text} |")
    return ["| Flag | Environment | Default | Meaning |", "|---|---|---|---|", *rows]


def table_in_readme(name: str) -> list[str]:
    """The lines of the table below `<!-- table: name -->`."""
    found = re.search(rf"<!-- table: {name} -->\n((?:\|.*\n)+)", README.read_text())
    assert found, f"the README has no table {name}"
    return found[1].splitlines()


if __name__ == "__main__":
    print("\n".join([*errors_table(), "", *settings_table()]))
