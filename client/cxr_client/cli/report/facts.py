"""Facts: totals and properties of the whole run, for the report. Next: document."""

from collections import Counter
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path

from cxr_client.answer import InputWarning, ModelInfo
from cxr_client.description import ModelDescription
from cxr_client.enums import WarningCode
from cxr_client.results import ExplanationSet


@dataclass(slots=True)
class Facts:
    """What the report says beside its rows. Its size does not depend on the number of images."""

    root: Path | None
    """The folder that was searched; None if there were several paths."""

    skipped: str
    """The files that were passed over: "2 DICOM reports, 1 BMP"; "" if none were."""

    start_time: datetime
    model: ModelDescription
    films: int = 0
    failures: int = 0
    warnings: Counter[WarningCode] = field(default_factory=Counter)
    """How many films have each warning about them."""

    models: Counter[ModelInfo] = field(default_factory=Counter)
    """How many films each model has scored: a server may get another one during the run."""

    notices: dict[str, None] = field(default_factory=dict)

    @property
    def title(self) -> str:
        """The name of the folder, or what is shown."""
        return "Radiographs" if self.root is None else self.root.resolve().name or "/"

    def shown(self, name: str) -> str:
        """Return the name of an image as the report shows it: within the folder."""
        if self.root is not None and Path(name).is_relative_to(self.root):
            return str(Path(name).relative_to(self.root))
        return name

    def count(self, answer: ExplanationSet) -> None:
        """Add an answer to the totals."""
        self.films += 1
        self.models[answer.model] += 1
        self.notices[answer.notice] = None
        self.warnings.update(warning.code for warning in warnings_of(answer))


def warnings_of(answer: ExplanationSet) -> list[InputWarning]:
    """Return the warnings about a film. One about the model is part of the notice."""
    return [each for each in answer.warnings if each.code is not WarningCode.PHANTOM_MODEL]
