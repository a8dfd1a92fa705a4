"""Answers: an image file -> its row, after a call that waits for the server. Next: journal."""

import asyncio
import os
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import NamedTuple

from cxr_client.async_client import AsyncClient
from cxr_client.bulk.rows import failure_row, image_row
from cxr_client.cli import pictures
from cxr_client.cli.bulk.options import Plan
from cxr_client.cli.bulk.scan import Film
from cxr_client.cli.files import FileError, Job
from cxr_client.cli.refusals import with_options
from cxr_client.cli.usage import ALL, UsageError
from cxr_client.errors import (
    CallCancelledError,
    CxrError,
    ProtocolError,
    UnauthenticatedError,
    UnavailableError,
)
from cxr_client.many import Patience
from cxr_client.results import ExplanationSet, Prediction
from cxr_client.runs import Header, Row


class Answered(NamedTuple):
    """A row, and the embedding that belongs to it."""

    row: Row
    embedding: tuple[float, ...] = ()


class OtherModelError(Exception):
    """The server answers with another model than that of the run."""


@dataclass(slots=True)
class ByContent:
    """Existing rows by the hash of their image, to find those of files that have moved."""

    files: dict[str, list[str]] = field(default_factory=dict)

    def take(self, key: str, file: str, *, moves: Callable[[str], bool]) -> bool:
        """Take the row of a file, or else of a file that moved, and return whether there is one.

        Equal images have rows of their own. `moves` tells whether the file of a row is gone.
        """
        rows = self.files.get(key, [])
        row = file if file in rows else next((each for each in rows if moves(each)), None)
        if row is None:
            return False
        rows.remove(row)
        return True


@dataclass(frozen=True, slots=True, kw_only=True)
class Answers:
    """Answers image files as a plan asks, and waits as long as it takes."""

    plan: Plan
    header: Header
    client: AsyncClient
    patience: Patience
    read: Callable[[Job], bytes]
    refused: Callable[[Exception], UsageError | None]
    known: ByContent

    async def answer(self, film: Film) -> Answered | None:
        """Return the row of a file; None where it is known by its content.

        Raises:
            CxrError: The server is not reached, rejects the token, or is another service.
            FileError: A heatmap cannot be written.
            OtherModelError: It serves another model.
            UsageError: It refuses what every image asks for.
        """
        identity, name = self.plan.identity, self.plan.identity.name(film.name, film.relative)
        try:
            data, facts = await asyncio.to_thread(self._read, film)
        except _UnreadableError as error:
            key = identity.key(film.name, error.facts, None)
            if identity.by_content and self.known.take(key, name, moves=lambda _: False):
                return None
            failure = error.failure
            return Answered(failure_row(name, key, error.facts, failure.reason, failure.message))
        key = identity.key(film.name, facts, data)
        if identity.by_content and self.known.take(key, name, moves=self._has_moved):
            return None
        try:
            answer = await self.patience.call(partial(self._ask, data))
        except (CallCancelledError, ProtocolError, UnauthenticatedError, UnavailableError):
            raise
        except CxrError as error:
            if usage := self.refused(error):
                raise usage from None
            reason = error.reason or (error.code.name if error.code else type(error).__name__)
            return Answered(failure_row(name, key, facts, reason, with_options(error.message)))
        self._check(answer)
        row = image_row(
            name,
            key,
            facts,
            answer,
            heatmap=await asyncio.to_thread(self._save, film, name, answer),
            with_evidence=self.plan.evidence,
        )
        return Answered(row, answer.embedding if self.plan.embeddings else ())

    def _read(self, film: Film) -> tuple[bytes, os.stat_result]:
        facts = None
        try:
            facts = os.stat(film.name)
            return self.read(Job(film.name, Path(film.name), Path())), facts
        except OSError as error:
            message = error.strerror or type(error).__name__
            raise _UnreadableError(FileError("FILE_UNREADABLE", message), facts) from None
        except FileError as error:
            raise _UnreadableError(error, facts) from None

    async def _ask(self, image: bytes) -> Prediction | ExplanationSet:
        plan = self.plan
        if not plan.explains:
            return await self.client.predict(
                image,
                top_k=ALL,
                strict_input=plan.strict,
                presentation=plan.presentation,
                include_embedding=plan.embeddings or None,
            )
        one = [plan.heatmap_label] if plan.heatmap_label else []
        return await self.client.explain(
            image,
            labels=self.header["labels"] if plan.evidence else one,
            heatmap_labels=one,
            render=plan.render,
            strict_input=plan.strict,
            presentation=plan.presentation,
            include_embedding=plan.embeddings or None,
        )

    def _check(self, answer: Prediction | ExplanationSet) -> None:
        model, ours = answer.model, self.header["model"]
        precision = self.header.get("precision", "")
        if model.weights_sha256 != ours["weights_sha256"] or model.version != ours["version"]:
            told = f"{ours['name']} {ours['version']}, but {model.name} {model.version}"
            raise OtherModelError(f"the server no longer serves {told}, or other weights of it")
        if model.reduced_precision != precision:
            told = f"in {precision or 'float32'}, but in {model.precision}"
            raise OtherModelError(f"the server no longer computes {told}")
        if self.plan.embeddings and not answer.embedding:
            raise UsageError(f"--embeddings: {model.name} {model.version} returns none")

    def _save(self, film: Film, name: str, answer: Prediction | ExplanationSet) -> str | None:
        """Write the heatmap; return its path in the folder of heatmaps."""
        folder = self.plan.heatmaps
        if folder is None or not isinstance(answer, ExplanationSet):
            return None
        relative = name if self.plan.identity.secret else film.relative
        job = Job(name, b"", Path(relative))
        saved = next((each for each in pictures.save(answer, folder, job) if each), None)
        return saved.relative_to(folder).as_posix() if saved else None

    def _has_moved(self, file: str) -> bool:
        return bool(self.plan.identity.secret) or not os.path.exists(file)


class _UnreadableError(Exception):
    def __init__(self, failure: FileError, facts: os.stat_result | None) -> None:
        super().__init__(failure.message)
        self.failure = failure
        self.facts = facts
