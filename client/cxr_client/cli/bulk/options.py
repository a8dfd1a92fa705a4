"""Options: those of `cxr predict --output` -> a checked plan of the run. Next: command."""

import argparse
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cxr_client.bulk.export import ExtraMissing, require_parquet
from cxr_client.bulk.identity import Identity, read_secret
from cxr_client.cli import pictures
from cxr_client.cli.files import os_message
from cxr_client.cli.usage import Parser, UsageError, seconds
from cxr_client.enums import DicomPresentationName, RenderFormat, RenderFrame, RenderKind
from cxr_client.many import DEFAULT_OUTAGE_S
from cxr_client.requests import RenderOptions

_TABLES = (".csv", ".parquet")
_NOT_WITH_OUTPUT = {
    "--json": "OUTPUT.jsonl is the form",
    "--csv": "OUTPUT.csv is the form",
    "--include-embedding": "--embeddings stores them",
    "--top-k": "every finding is stored",
    "--verbose": "every detail is stored",
    "--by-study": "rows come as they are answered",
    "--no-cache": "each image is asked for once",
}
_ONLY_WITH_OUTPUT = (
    "--resume",
    "--retry-failed",
    "--wide",
    "--heatmaps",
    "--heatmap-label",
    "--evidence",
    "--embeddings",
    "--anonymous-names",
)
_HEATMAP = RenderOptions(
    kind=RenderKind.OVERLAY, frame=RenderFrame.ORIGINAL, format=RenderFormat.JPEG, legend=True
)
_NO_HEATMAP = RenderOptions(kind=RenderKind.NONE)


def add_bulk_options(parser: Parser) -> None:
    """Add the options of runs over whole folders."""
    group = parser.add_argument_group(
        "whole folders",
        "Calls give way to those of other callers. Ctrl-C ends a run after the calls in flight.",
    )
    group.add_argument(
        "--output",
        type=Path,
        metavar="OUTPUT",
        help="write every finding to the journal of the run, OUTPUT.jsonl, and at the end of the"
        " run to OUTPUT if that is a .csv or .parquet file",
    )
    group.add_argument("--resume", action="store_true", help="continue the run of the journal")
    group.add_argument(
        "--retry-failed",
        action="store_true",
        help="with --resume: retry images that have failed; the new rows replace the old ones",
    )
    group.add_argument(
        "--wide",
        action="store_true",
        help="write tables with one row per image (default: one per finding)",
    )
    group.add_argument(
        "--heatmaps", type=Path, metavar="DIR", help="save a heatmap of each image as JPEG"
    )
    group.add_argument(
        "--heatmap-label",
        metavar="LABEL",
        help="finding in the heatmaps (default: the one with the highest score)",
    )
    group.add_argument(
        "--evidence", action="store_true", help="store the evidence grid of every finding"
    )
    group.add_argument(
        "--embeddings",
        action="store_true",
        help="store the network's features in a .npy file beside the journal",
    )
    group.add_argument(
        "--key",
        choices=["path", "sha256"],
        default="path",
        help="how --resume recognises an image: by path, size and modification time, or by"
        " content, which it reads again (default: path)",
    )
    group.add_argument(
        "--anonymous-names",
        metavar="SECRET",
        help="store keyed hashes instead of names; SECRET is the file with the key, created if"
        " missing",
    )
    group.add_argument(
        "--outage",
        type=seconds,
        default=DEFAULT_OUTAGE_S,
        metavar="SECONDS",
        help=f"longest wait for a server that does not answer (default: {DEFAULT_OUTAGE_S:g})",
    )


@dataclass(frozen=True, slots=True)
class Plan:
    """What a run asks for and writes."""

    journal: Path
    table: Path | None
    wide: bool
    heatmaps: Path | None
    heatmap_label: str
    evidence: bool
    embeddings: bool
    identity: Identity
    strict: bool | None
    presentation: DicomPresentationName | None
    strip_header: bool

    @property
    def explains(self) -> bool:
        """Whether images are explained, which also scores them, or scored alone."""
        return self.heatmaps is not None or self.evidence

    @property
    def render(self) -> RenderOptions:
        """How heatmaps are drawn."""
        return _HEATMAP if self.heatmaps else _NO_HEATMAP

    def recorded(self) -> dict[str, Any]:
        """Return what rows depend on, for the header of the journal; no paths."""
        return {
            "key": "sha256" if self.identity.by_content else "path",
            "anonymous_names": self.identity.fingerprint(),
            "strict_input": bool(self.strict),
            "presentation": self.presentation or "AS_SHOWN",
            "strip_header": self.strip_header,
            "heatmaps": self.heatmaps is not None,
            "heatmap_label": self.heatmap_label,
            "evidence": self.evidence,
            "embeddings": self.embeddings,
        }


def check_none(arguments: argparse.Namespace) -> None:
    """Check that no option of runs is given without one.

    Raises:
        UsageError: One is.
    """
    for option in _ONLY_WITH_OUTPUT:
        if _value(arguments, option):
            raise UsageError(f"{option} needs --output")


def plan_of(arguments: argparse.Namespace) -> Plan:
    """Check the options, and make the folder of heatmaps and the secret.

    Raises:
        UsageError: They contradict each other, or cannot be met.
    """
    for option, instead in _NOT_WITH_OUTPUT.items():
        if _value(arguments, option):
            raise UsageError(f"{option} is for standard output; with --output, {instead}")
    if arguments.retry_failed and not arguments.resume:
        raise UsageError("--retry-failed needs --resume")
    if "-" in arguments.files:
        raise UsageError('"-" has no name to resume by; give a file, or --files-from -')
    output: Path = arguments.output
    suffix = output.suffix.lower()
    if suffix not in (".jsonl", *_TABLES):
        raise UsageError(f"--output {output}: the name ends in .jsonl, .csv or .parquet")
    if arguments.wide and suffix not in _TABLES:
        raise UsageError("--wide is for .csv and .parquet")
    if arguments.heatmap_label and not arguments.heatmaps:
        raise UsageError("--heatmap-label needs --heatmaps")
    if arguments.heatmaps and arguments.evidence and not arguments.heatmap_label:
        raise UsageError("--evidence with --heatmaps needs --heatmap-label")
    if suffix == ".parquet":
        try:
            require_parquet()
        except ExtraMissing as error:
            raise UsageError(f"--output {output}: {error}") from None
    if arguments.heatmaps:
        pictures.prepare(arguments.heatmaps, option="--heatmaps")
    is_table = suffix in _TABLES
    return Plan(
        journal=output.with_name(f"{output.name}.jsonl") if is_table else output,
        table=output if is_table else None,
        wide=arguments.wide,
        heatmaps=arguments.heatmaps,
        heatmap_label=arguments.heatmap_label or "",
        evidence=arguments.evidence,
        embeddings=arguments.embeddings,
        identity=Identity(arguments.key == "sha256", _secret(arguments.anonymous_names)),
        strict=arguments.strict or None,
        presentation=arguments.presentation,
        strip_header=arguments.strip_header,
    )


def _secret(path: str | None) -> bytes:
    if path is None:
        return b""
    try:
        return read_secret(path)
    except OSError as error:
        raise UsageError(f"--anonymous-names {path}: {os_message(error)}") from None
    except ValueError as error:
        raise UsageError(f"--anonymous-names {path}: {error}") from None


def _value(arguments: argparse.Namespace, option: str) -> Any:
    return getattr(arguments, option.removeprefix("--").replace("-", "_"))
