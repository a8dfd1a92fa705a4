"""Output: an evaluation -> files on the disk and a table on the terminal."""

import os
import secrets
from pathlib import Path
from typing import Any

from cxr_client.cli.files import FileError, os_message
from cxr_client.cli.text import aligned, printable
from cxr_client.cli.usage import UsageError

_NAMED = 6
"""Labels without a finding that are printed by name."""


def writable(*outputs: Path) -> None:
    """Make the folders of the outputs, before anything is computed.

    Raises:
        UsageError: An output cannot be a file.
    """
    if len(set(outputs)) < len(outputs):
        raise UsageError(f"--output {outputs[0]}: a file beside it would have the same name")
    for output in outputs:
        if output.exists() and not output.is_file():
            raise UsageError(f"--output {output}: is not a regular file")
        try:
            output.parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise UsageError(f"--output {output}: {os_message(error)}") from None
        if not os.access(output.parent, os.W_OK):
            raise UsageError(f"--output {output}: the folder is not writable")


def write(output: Path, text: str) -> None:
    """Write a file under another name first.

    Raises:
        FileError: The disk does not take it.
    """
    part = output.with_name(f".cxr-{secrets.token_hex(8)}.part")
    try:
        # Names of files that are not UTF-8 are shown escaped.
        with part.open("x", encoding="utf-8", errors="backslashreplace", newline="\n") as file:
            file.write(text)
        part.replace(output)
    except OSError as error:
        part.unlink(missing_ok=True)
        raise FileError("OUTPUT", f"cannot write {output}: {os_message(error)}") from None


def print_table(result: dict[str, Any]) -> None:
    """Print the flow of images, how labels were read, and a line for each finding."""
    print(printable(result["title"]))
    for step in result["flow"]:
        print(f"  {'- ' * step['left_out']}{printable(step['text'])}: {step['count']}")
    labels = result["labels"]
    for reason, count in labels["left_out"].items():
        print(f"  - of the label file, {reason}: {count}")
    if unmapped := labels["unmapped"]:
        more = f" and {len(unmapped) - _NAMED} others" if len(unmapped) > _NAMED else ""
        named = printable(", ".join(unmapped[:_NAMED]))
        print(f"  - of the label file, no finding of a model: {named}{more}")
    for sentence in (*labels["choices"], *result["cautions"]):
        print(f"  {printable(sentence)}")
    rows = [["finding", "images", "positive", "missing", "AUROC", "95 %", "sens.", "spec."]]
    for each in result["findings"]:
        auroc = each["auroc"]
        rows.append(
            [
                each["finding"],
                str(each["n"]),
                str(each["positives"]),
                str(each["missing"]),
                _number(auroc["value"]),
                "" if auroc["low"] is None else f"{auroc['low']:.3f} to {auroc['high']:.3f}",
                _number(each["sensitivity"]["value"]),
                _number(each["specificity"]["value"]),
            ]
        )
    print()
    print("\n".join(aligned(rows)))
    print(f"\n{printable(result['notice'])}")


def print_comparison(result: dict[str, Any]) -> None:
    """Print a line for each finding: both runs, their difference, and who changed side."""
    print(printable(result["title"]))
    print(f"  Images in both runs: {result['images']}\n")
    rows = [["finding", "AUROC A", "AUROC B", "difference", "95 %", "same side", "up", "down"]]
    for each in result["findings"]:
        difference = each["auroc_difference"]
        interval = ""
        if difference["low"] is not None:
            interval = f"{difference['low']:+.3f} to {difference['high']:+.3f}"
        rows.append(
            [
                each["finding"],
                _number(each["auroc_a"]),
                _number(each["auroc_b"]),
                "" if difference["value"] is None else f"{difference['value']:+.3f}",
                interval,
                _number(each["same_side"]),
                str(each["raised"]),
                str(each["lowered"]),
            ]
        )
    print("\n".join(aligned(rows)))
    print(f"\n{printable(result['notice'])}")


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.3f}"
