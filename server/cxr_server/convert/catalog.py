"""Catalog: torchxrayvision's DenseNets: files, checksums, operating points and reliability.

The data is in `catalog.json`. Addresses, findings and operating points are those of
torchxrayvision 1.5.7 (`torchxrayvision.models.model_urls`); a test compares them with the
installed package. The reliability of densenet121-res224-all quotes the figures of its
BENCHMARKS.md.
"""

from importlib.resources import files

import msgspec

from cxr_server.bundles.manifest import Reliability

_RELEASE = "https://github.com/mlmed/torchxrayvision/releases/download/v1/"
_SUFFIX = "-densenet121-d121-tw-lr001-rot45-tr15-sc15-seed0-best.pt"
_ALL = "densenet121-res224-all"
LICENSE = (
    "torchxrayvision's code is Apache-2.0; its authors publish no separate licence for the weights."
)
NOTICES = (
    "For research use only, not for diagnosis.",
    "A score is torchxrayvision's operating-point score: 0.5 is the decision boundary. It is not"
    " a probability, and not comparable between findings as one.",
    "There is no 'No Finding': low scores everywhere do not make a normal radiograph.",
)


class CatalogEntry(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A model of torchxrayvision.

    Attributes:
        name: Its name in torchxrayvision.
        file_stem: The part of the file's name that differs between models.
        trained_on: The data sets.
        operating_points: By finding, for the findings that the model was trained for.
        bytes: Size of the file, where known.
        sha256: SHA-256 of the file, where known.
    """

    name: str
    file_stem: str
    trained_on: str
    operating_points: dict[str, float]
    bytes: int | None = None
    sha256: str | None = None

    @property
    def file_name(self) -> str:
        """Name of the upstream file."""
        return self.file_stem + _SUFFIX

    @property
    def url(self) -> str:
        """The address from which torchxrayvision downloads it."""
        return _RELEASE + self.file_name


class _Data(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    outputs: tuple[str, ...]
    models: tuple[CatalogEntry, ...]
    reliability: dict[str, Reliability]


_data = msgspec.json.decode(files(__package__).joinpath("catalog.json").read_bytes(), type=_Data)
OUTPUTS = _data.outputs
"""Findings of torchxrayvision's classifiers in the order of the outputs."""
CATALOG = {entry.name: entry for entry in _data.models}


def reliability(name: str, labels: tuple[str, ...]) -> dict[str, Reliability]:
    """Return the reliability of the labels of a catalogue model.

    The published figures are those of densenet121-res224-all. For the other models only the
    authors' reservations are stated.
    """
    published = {label: _data.reliability[label] for label in labels}
    if name == _ALL:
        return published
    note = f"Hidden by the authors' own tool, Chester, for {_ALL}."
    weak = (label for label, stated in published.items() if stated.level == "weak")
    return {label: Reliability("weak", note) for label in weak}
