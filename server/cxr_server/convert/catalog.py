"""Catalog: torchxrayvision's DenseNets, what is known of their files and how far they go.

Labels and operating points are torchxrayvision's own and are read from it by `prepare`.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from cxr_server.bundles.manifest import Reliability

_RELEASE = "https://github.com/mlmed/torchxrayvision/releases/download/v1/"
_SUFFIX = "-densenet121-d121-tw-lr001-rot45-tr15-sc15-seed0-best.pt"
LICENSE = (
    "torchxrayvision's code is Apache-2.0; its authors publish no separate licence for the weights."
)
NOTICES = (
    "For research use only, not for diagnosis.",
    "A score is torchxrayvision's operating-point score: 0.5 is the decision boundary. It is not"
    " a probability, and not comparable between findings as one.",
    "There is no 'No Finding': low scores everywhere do not make a normal radiograph.",
)


@dataclass(frozen=True, slots=True)
class CatalogEntry:
    """A model of torchxrayvision.

    Attributes:
        name: Its name here and there.
        file_stem: What tells its file from its siblings' files.
        trained_on: The data sets.
        bytes: Size of its file, where known.
        sha256: SHA-256 of its file, where known.
    """

    name: str
    file_stem: str
    trained_on: str
    bytes: int | None = None
    sha256: str | None = None

    @property
    def file_name(self) -> str:
        """Name of the upstream file."""
        return self.file_stem + _SUFFIX

    @property
    def url(self) -> str:
        """Where torchxrayvision downloads it from."""
        return _RELEASE + self.file_name


CATALOG: Mapping[str, CatalogEntry] = {
    entry.name: entry
    for entry in (
        CatalogEntry(
            "densenet121-res224-all",
            "nih-pc-chex-mimic_ch-google-openi-kaggle",
            "NIH, PadChest, CheXpert, MIMIC-CXR, Google, OpenI and RSNA",
            28_382_008,
            "56524913dd16a906422e8d8b66a7a5c46be1d82eb7ac012d8103776f1aa68899",
        ),
        CatalogEntry("densenet121-res224-nih", "nih", "NIH ChestX-ray14"),
        CatalogEntry("densenet121-res224-pc", "pc", "PadChest"),
        CatalogEntry("densenet121-res224-chex", "chex", "CheXpert"),
        CatalogEntry("densenet121-res224-rsna", "kaggle", "RSNA Pneumonia Challenge"),
        CatalogEntry("densenet121-res224-mimic_nb", "mimic_nb", "MIMIC-CXR, labels of NegBio"),
        CatalogEntry("densenet121-res224-mimic_ch", "mimic_ch", "MIMIC-CXR, labels of CheXpert"),
    )
}

_HIDDEN = "Hidden by the authors' own tool, Chester."


def _note(aucs: str, hidden: bool = False) -> str:
    note = f"AUC on held-out parts of its training sets: {aucs} (torchxrayvision, BENCHMARKS.md)."
    return f"{note} {_HIDDEN}" if hidden else note


RELIABILITY_ALL: Mapping[str, Reliability] = {
    "Atelectasis": Reliability("uneven", _note("0.76 to 0.91; VinBigData, not trained on, 0.67")),
    "Consolidation": Reliability("uneven", _note("0.77 to 0.91; VinBigData, not trained on, 0.93")),
    "Infiltration": Reliability("weak", _note("0.68 and 0.85", hidden=True)),
    "Pneumothorax": Reliability("weak", _note("0.75 to 0.85; SIIM 0.79", hidden=True)),
    "Edema": Reliability("consistent", _note("0.85 to 0.97")),
    "Emphysema": Reliability("uneven", _note("0.73 and 0.87")),
    "Fibrosis": Reliability("uneven", _note("0.72 and 0.94")),
    "Effusion": Reliability("consistent", _note("0.85 to 0.95; VinBigData, not trained on, 0.87")),
    "Pneumonia": Reliability("weak", _note("0.71 to 0.86", hidden=True)),
    "Pleural_Thickening": Reliability(
        "uneven", _note("0.74 and 0.79; VinBigData, not trained on, 0.84")
    ),
    "Cardiomegaly": Reliability(
        "consistent", _note("0.88 to 0.93; VinBigData, not trained on, 0.90")
    ),
    "Nodule": Reliability("weak", _note("0.69 and 0.69", hidden=True)),
    "Mass": Reliability("uneven", _note("0.80 and 0.85")),
    "Hernia": Reliability("consistent", _note("0.91 and 0.96")),
    "Lung Lesion": Reliability("weak", _note("0.82 and 0.84", hidden=True)),
    "Fracture": Reliability("weak", _note("0.70 to 0.74", hidden=True)),
    "Lung Opacity": Reliability("consistent", _note("0.86 to 0.88")),
    "Enlarged Cardiomediastinum": Reliability("uneven", _note("0.78 and 0.84")),
}
"""How evenly densenet121-res224-all recognises each finding, and the figures behind that."""

_WEAK = tuple(label for label, stated in RELIABILITY_ALL.items() if stated.level == "weak")


def reliability(name: str, labels: tuple[str, ...]) -> dict[str, Reliability]:
    """Return (level, note) of each label of a catalogue model.

    Published figures are of densenet121-res224-all; for its siblings only the authors'
    reservations are passed on.
    """
    if name == "densenet121-res224-all":
        return {label: RELIABILITY_ALL[label] for label in labels if label in RELIABILITY_ALL}
    note = "Hidden by the authors' own tool, Chester, for densenet121-res224-all."
    return {label: Reliability("weak", note) for label in labels if label in _WEAK}
