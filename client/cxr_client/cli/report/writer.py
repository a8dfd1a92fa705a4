"""Writer: the outcomes of images -> rows -> the file of the report. Next: document."""

import secrets
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import IO, Self

from cxr_client.cli.files import FileError, os_message
from cxr_client.cli.output import Answer, Failure, Pictures
from cxr_client.cli.report import document
from cxr_client.cli.report.facts import Facts
from cxr_client.cli.report.rows import failure_row, film_row
from cxr_client.cli.usage import UsageError
from cxr_client.results import ExplanationSet


def prepare(output: Path) -> None:
    """Make the folder of the report, and try it: no image is sent for one that cannot be kept.

    Raises:
        UsageError: No file can be written at `output`.
    """
    if output.exists() and not output.is_file():
        raise UsageError(f"--output {output}: is not a regular file")
    try:
        output.parent.mkdir(parents=True, exist_ok=True)
        _unnamed(output.parent).close()
    except OSError as error:
        raise UsageError(f"--output {output}: {os_message(error)}") from None


class ReportWriter:
    """Keeps a row for each outcome on the disk, and writes the report at the end.

    The rows are in files without names in the folder of the report. So memory does not grow with
    the number of images, the report begins with its totals, and an interrupted run leaves nothing.
    """

    def __init__(self, output: Path, facts: Facts) -> None:
        """Report to `output`, which has been prepared.

        Raises:
            FileError: The folder takes no file.
        """
        self._output, self._facts = output, facts
        with self._writing():
            self._films, self._failures = _unnamed(output.parent), _unnamed(output.parent)

    def answer(self, name: str, answer: Answer, pictures: Pictures) -> None:
        """Keep the row of an image with its picture.

        Raises:
            FileError: The disk does not take it.
        """
        assert isinstance(answer, ExplanationSet)
        self._facts.count(answer)
        with self._writing():
            self._films.write(film_row(self._facts.shown(name), answer, self._facts.model))

    def failure(self, name: str, failure: Failure) -> None:
        """Keep the row of a failure, in addition to the line on standard error.

        Raises:
            FileError: The disk does not take it.
        """
        self._facts.failures += 1
        with self._writing():
            self._failures.write(failure_row(self._facts.shown(name), failure))

    def end(self) -> None:
        """Write the report, under another name first, and print its path.

        Raises:
            FileError: The disk does not take it.
        """
        part = self._output.with_name(f".cxr-{secrets.token_hex(8)}.part")
        with self._writing():
            try:
                with part.open("x", encoding="utf-8", newline="\n") as file:
                    file.write(document.head(self._facts))
                    _append(self._films, file)
                    file.write(document.between(self._facts))
                    _append(self._failures, file)
                    file.write(document.tail(self._facts))
                part.replace(self._output)
            except BaseException:
                part.unlink(missing_ok=True)
                raise
        print(self._output)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._films.close()
        self._failures.close()

    @contextmanager
    def _writing(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise FileError("OUTPUT", f"cannot write {self._output}: {os_message(error)}") from None


def _unnamed(folder: Path) -> IO[str]:
    """Return a new file that ceases to exist when it is closed."""
    return tempfile.TemporaryFile("w+", dir=folder, encoding="utf-8", newline="\n")


def _append(rows: IO[str], file: IO[str]) -> None:
    rows.seek(0)
    shutil.copyfileobj(rows, file)
