"""Catalog: torchxrayvision's DenseNets: files, checksums, operating points and reliability.

The data is in `catalog.json`. Addresses, findings and operating points are those of
torchxrayvision 1.5.7 (`torchxrayvision.models.model_urls`); a test compares them with the
installed package. The reliability of densenet121-res224-all quotes the figures of its
BENCHMARKS.md; for the other models only the authors' reservations are stated.
"""

from importlib.resources import files

import msgspec

from cxr_server.bundles.manifest import Reliability


class CatalogEntry(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A model of torchxrayvision, by its name there; size and SHA-256 of the file if known."""

    name: str
    url: str
    trained_on: str
    operating_points: dict[str, float]  # for each finding that the model was trained for
    reliability: dict[str, Reliability]
    bytes: int | None = None
    sha256: str | None = None

    @property
    def file_name(self) -> str:
        """Name of the upstream file."""
        return self.url.rpartition("/")[2]

    @property
    def card(self) -> str:
        """Path of the model card in cxr-serve's source."""
        return f"docs/models/{self.name}.md"


class _Catalog(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    license: str
    notices: tuple[str, ...]
    outputs: tuple[str, ...]  # findings of torchxrayvision's classifiers, in order
    models: tuple[CatalogEntry, ...]


_data = msgspec.json.decode(files(__package__).joinpath("catalog.json").read_bytes(), type=_Catalog)
LICENSE, NOTICES, OUTPUTS = _data.license, _data.notices, _data.outputs
CATALOG = {entry.name: entry for entry in _data.models}
