"""The `cxr-phantom` command: draw, train, pack."""

import argparse
import importlib
import sys
from collections.abc import Sequence

COMMANDS = {
    "draw": ("samples", "draw phantoms as PNG files"),
    "train": ("retrain", "draw the training sets, train the phantom model and evaluate it"),
    "pack": ("pack", "make a bundle from trained weights"),
    "gate": ("gate", "train the check that an image shows a frontal chest"),
    "photograph": ("photograph", "train the check for photographs of films"),
}
"""Module and help text by subcommand. Only the chosen module is imported: `draw` and `gate` need
no torch."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line. Returns the exit status: 0 done, 1 failed, 2 wrong usage."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    parser = argparse.ArgumentParser(
        prog="cxr-phantom",
        description="Draws synthetic chest radiographs; trains and packs the phantom model.",
    )
    subparsers = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    module = None
    for name, (module_name, help_text) in COMMANDS.items():
        subparser = subparsers.add_parser(
            name, help=help_text, description=f"{help_text[0].upper()}{help_text[1:]}."
        )
        if arguments[:1] == [name]:
            module = importlib.import_module(f"cxr_phantom.{module_name}")
            module.add_arguments(subparser)
    args = parser.parse_args(arguments)
    assert module is not None  # argparse exits unless the first argument is a command
    try:
        return int(module.run(args))
    except (ValueError, OSError) as error:
        print(f"cxr-phantom: {error}", file=sys.stderr)
        return 1


if __name__ == "__main__":
    sys.exit(main())
