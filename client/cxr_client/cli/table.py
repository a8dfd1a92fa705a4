"""Table: outcomes -> text for people on standard output."""

import shutil
import sys
from pathlib import Path

from cxr_client.cli.output import Answer, Failure, Pictures, all_findings, explanations_of
from cxr_client.cli.studies import Studies
from cxr_client.cli.text import aligned, printable
from cxr_client.enums import WarningCode
from cxr_client.explanation import Explanation
from cxr_client.results import ExplanationSet, Prediction

_LABEL_WIDTH = 18  # That of "Pleural_Thickening"; longer labels are cut.
_MAX_NAME_WIDTH = 120
_CELL_WIDTH = len("0.996* ") + _LABEL_WIDTH


class Footer:
    """What is said once for any number of images: what the marks mean, warnings, notices."""

    def __init__(self) -> None:
        """Start without sentences."""
        self._sentences: dict[str, None] = {}
        self._notices: dict[str, None] = {}
        self._marked = False

    def add(self, answer: Answer) -> None:
        """Collect what there is to say about an answer."""
        self._marked |= any(finding.above_threshold for finding in answer.findings)
        for warning in answer.warnings:
            self._sentences[f"{warning.code}: {warning.message}"] = None
        self._notices[answer.notice] = None

    def lines(self) -> list[str]:
        """Return its lines."""
        mark = "* above the model's operating point, a score of 0.5; not a diagnosis"
        sentences = filter(None, (*self._sentences, *self._notices))
        return [*([mark] if self._marked else []), *map(printable, sentences)]


class TableWriter:
    """An aligned table for each image, then the footer.

    `verbose` says of each image whether the network saw it or the server's cache had its evidence.
    """

    def __init__(self, studies: Studies, *, verbose: bool) -> None:
        """Start with an empty footer."""
        self._footer, self._studies, self._verbose = Footer(), studies, verbose

    def answer(self, name: str, answer: Answer, pictures: Pictures) -> None:
        """Print one image's table."""
        info, model = answer.image_info, answer.model
        if heading := self._studies.heading(name):
            print(f"{heading}\n")
        print(
            f"{printable(name)}  ({info.width_px} x {info.height_px} px, "
            f"{info.format}, {printable(model.name)} {printable(model.version)}"
            f"{', cached' if self._verbose and answer.timing.evidence_cached else ''})"
        )
        for line in aligned(_rows(answer, pictures)):
            print(f"  {line}")
        if _explains_nothing(answer):
            print("  no finding to explain is above its operating point")
        if answer.warnings:
            print("  ! " + ", ".join(warning.code for warning in answer.warnings))
        self._footer.add(answer)
        print()

    def failure(self, name: str, failure: Failure) -> None:
        """Print nothing: the error is on standard error."""

    def end(self) -> None:
        """Print the footer."""
        for line in self._footer.lines():
            print(line)


class LineWriter:
    """One line for each of many images: its best findings and its warnings; then the footer."""

    def __init__(self, names: list[str], studies: Studies) -> None:
        """Align the columns for these names of files."""
        self._footer, self._studies = Footer(), studies
        # One long name does not move the columns of all.
        self._name_width = min(
            max((len(printable(name)) for name in names), default=0), _MAX_NAME_WIDTH
        )
        self._cells = 3
        if sys.stdout.isatty():
            left = shutil.get_terminal_size().columns - self._name_width - len("  ! CROPPED")
            self._cells = min(max(left // (_CELL_WIDTH + 2), 1), 3)

    def answer(self, name: str, answer: Answer, pictures: Pictures) -> None:
        """Print one image's line."""
        if heading := self._studies.heading(name):
            print(heading)
        cells = [printable(name).ljust(self._name_width)]
        for finding in answer.findings[: self._cells]:
            mark = "*" if finding.above_threshold else " "
            label = printable(finding.label)
            if len(label) > _LABEL_WIDTH:
                label = label[: _LABEL_WIDTH - 3] + "..."
            cells.append(f"{finding.score:.3f}{mark} {label}".ljust(_CELL_WIDTH))
        if _explains_nothing(answer):
            cells.append("no map: none above its operating point")
        # A warning about the model concerns every image: it is in the footer alone.
        codes = [each.code for each in answer.warnings if each.code != WarningCode.PHANTOM_MODEL]
        if codes:
            cells.append("! " + ", ".join(codes))
        print("  ".join(cells).rstrip())
        self._footer.add(answer)

    def failure(self, name: str, failure: Failure) -> None:
        """Print nothing: the error is on standard error."""

    def end(self) -> None:
        """Print the footer."""
        if lines := self._footer.lines():
            print("\n".join(["", *lines]))


def _rows(answer: Answer, pictures: Pictures) -> list[list[str]]:
    """Return a row for each finding, with a header."""
    if isinstance(answer, Prediction):
        calibrated = any(each.calibrated_probability is not None for each in answer.findings)
        rows = [["", "finding", "score", "probability", "threshold", *["calibrated"] * calibrated]]
        for finding in answer.findings:
            numbers = (finding.score, finding.probability, finding.threshold)
            mark = "*" if finding.above_threshold else ""
            cells = [mark, finding.label, *(f"{number:.3f}" for number in numbers)]
            if calibrated:
                probability = finding.calibrated_probability
                cells.append("" if probability is None else f"{probability:.3f}")
            rows.append(cells)
        return rows
    rows = [["", "finding", "score", "logit", "peak at px", "picture"]]
    explained = explanations_of(answer, pictures)
    for finding in all_findings(answer):
        mark = "*" if finding.above_threshold else ""
        map_cells = ["", "", ""]
        if finding.label in explained:
            map_cells = _map_cells(*explained[finding.label])
        rows.append([mark, finding.label, f"{finding.score:.3f}", *map_cells])
    return rows


def _map_cells(explanation: Explanation, picture: Path | None) -> list[str]:
    peak = explanation.peak
    where = f"{peak.x_px:.0f}, {peak.y_px:.0f}" if peak else "no positive evidence"
    return [f"{explanation.logit:+.3f}", where, str(picture or "")]


def _explains_nothing(answer: Answer) -> bool:
    return isinstance(answer, ExplanationSet) and not answer.explanations
