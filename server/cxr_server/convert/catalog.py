"""Catalog: torchxrayvision's DenseNets: files, checksums, operating points and reliability.

Addresses, findings and operating points are those of torchxrayvision 1.5.7
(`torchxrayvision.models.model_urls`); a test compares them with the installed package.
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
        name: Its name in torchxrayvision.
        file_stem: The part of the file's name that differs between models.
        trained_on: The data sets.
        bytes: Size of the file, where known.
        sha256: SHA-256 of the file, where known.
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
        """The address from which torchxrayvision downloads it."""
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

# fmt: off
OUTPUTS = (
    "Atelectasis", "Consolidation", "Infiltration", "Pneumothorax", "Edema", "Emphysema",
    "Fibrosis", "Effusion", "Pneumonia", "Pleural_Thickening", "Cardiomegaly", "Nodule",
    "Mass", "Hernia", "Lung Lesion", "Fracture", "Lung Opacity", "Enlarged Cardiomediastinum",
)
"""Findings of torchxrayvision's classifiers in the order of the outputs."""

OPERATING_POINTS: Mapping[str, tuple[float | None, ...]] = {
    "densenet121-res224-all": (
        0.07422872, 0.038290843, 0.09814756, 0.0098118475, 0.023601074, 0.0022490358,
        0.010060724, 0.103246614, 0.056810737, 0.026791653, 0.050318155, 0.023985857,
        0.01939503, 0.042889766, 0.053369623, 0.035975814, 0.20204692, 0.05015312
    ),
    "densenet121-res224-nih": (
        0.039117552, 0.0034529066, 0.11396341, 0.0057298196, 0.00045666535, 0.0018880932,
        0.012037827, 0.038744126, 0.0037213727, 0.014730946, 0.016149804, 0.054241467,
        0.037198864, 0.0004403434, None, None, None, None
    ),
    "densenet121-res224-pc": (
        0.031012505, 0.013347598, 0.081435576, 0.001262615, 0.002587246, 0.0035944257,
        0.0023071, 0.055412333, 0.044385884, 0.042766232, 0.043258056, 0.037629247,
        0.005658899, 0.0091741895, None, 0.026507627, None, None
    ),
    "densenet121-res224-chex": (
        0.1988969, 0.05710573, None, 0.0531293, 0.1435217, None, None, 0.27212676,
        0.07749717, None, 0.19712369, None, None, None, 0.09932402, 0.09273402, 0.3270967,
        0.10888247
    ),
    "densenet121-res224-rsna": (
        None, None, None, None, None, None, None, None, 0.13486601, None, None, None,
        None, None, None, None, 0.13511065, None
    ),
    "densenet121-res224-mimic_nb": (
        0.08558747, 0.011884617, None, 0.0040595434, 0.010733786, None, None, 0.118761964,
        0.022924708, None, 0.06358637, None, None, None, 0.022143636, 0.017476924,
        0.1258702, 0.014020768
    ),
    "densenet121-res224-mimic_ch": (
        0.09121389, 0.010573786, None, 0.005023008, 0.003698257, None, None, 0.08001232,
        0.037242252, None, 0.05006329, None, None, None, 0.019866971, 0.03823637,
        0.11303808, 0.0069147074
    ),
}
"""Of each output; None where the model was not trained for the finding."""
# fmt: on

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
"""How consistently densenet121-res224-all recognises each finding."""

_WEAK = tuple(label for label, stated in RELIABILITY_ALL.items() if stated.level == "weak")


def reliability(name: str, labels: tuple[str, ...]) -> dict[str, Reliability]:
    """Return the reliability of the labels of a catalogue model.

    The published figures are those of densenet121-res224-all. For the other models only the
    authors' reservations are stated.
    """
    if name == "densenet121-res224-all":
        return {label: RELIABILITY_ALL[label] for label in labels if label in RELIABILITY_ALL}
    note = "Hidden by the authors' own tool, Chester, for densenet121-res224-all."
    return {label: Reliability("weak", note) for label in labels if label in _WEAK}
