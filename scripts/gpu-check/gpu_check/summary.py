"""The results as text: $OUT/summary.txt, and on standard output."""

import json
from typing import Any

from gpu_check.common import OUT, RESULTS


def lines_of(value: Any, indent: int = 2) -> list[str]:
    """Return a value as indented lines."""
    if not isinstance(value, dict):
        return [" " * indent + json.dumps(value, default=str)]
    lines = []
    for key, each in value.items():
        text = json.dumps(each, default=str)
        if isinstance(each, dict) and len(text) > 110:
            lines += [f"{' ' * indent}{key}:", *lines_of(each, indent + 2)]
        else:
            lines.append(f"{' ' * indent}{key}: {text}")
    return lines


def main() -> None:
    """Write and print the summary."""
    results = json.loads(RESULTS.read_text()) if RESULTS.exists() else {}
    lines = []
    for section, parts in results.items():
        lines += [f"== {section}", *lines_of(parts)]
    text = "\n".join(lines) + "\n"
    (OUT / "summary.txt").write_text(text)
    print(text[-11_000:], end="")


if __name__ == "__main__":
    main()
