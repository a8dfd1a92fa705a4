"""Model cards: the catalogue, docs/models/facts.toml, the phantom -> pages in docs/models.

Every number comes from one of the three; facts.toml names its sources. `make model-cards` runs it.
"""

import tomllib
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from cxr_server.bundles.load import load_bundle
from cxr_server.bundles.store import PHANTOM_PATH
from cxr_server.convert.catalog import CATALOG, LICENSE, NOTICES, CatalogEntry

FOLDER = Path(__file__).resolve().parents[1] / "docs" / "models"
WRITTEN = "<!-- Written by `make model-cards`; edit facts.toml or the catalogue. -->"
FACTS = tomllib.loads((FOLDER / "facts.toml").read_text())


class Citations:
    """Numbers the sources in the order in which they are cited."""

    def __init__(self) -> None:
        self.keys: list[str] = []

    def __call__(self, *keys: str) -> str:
        """Return the marks of these sources, such as "[1][3]"."""
        self.keys += [key for key in dict.fromkeys(keys) if key not in self.keys]
        return "".join(f"[{self.keys.index(key) + 1}]" for key in keys)

    def listed(self) -> str:
        """Return the list of all sources that were cited."""
        sources = FACTS["sources"]
        return "\n".join(f"{number}. {sources[key]}" for number, key in enumerate(self.keys, 1))


def table(head: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """Return a table in Markdown."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(map(str, line)) + " |" for line in lines)


def population(dataset: dict[str, Any]) -> str:
    """Return what is known of the people and the views of a data set."""
    known = []
    if "median_age" in dataset:
        known.append(f"median age {dataset['median_age']}")
        known.append(f"{dataset['under_18_percent']} % under 18")
        known.append(f"{dataset['male_percent']} % male")
        known += [f"{count:,} {view}" for view, count in dataset["views"].items()]
    return ", ".join(known) or "not known here"


def training_sets(entry: CatalogEntry, cite: Citations) -> str:
    """Return the table of the data sets that a model was trained on."""
    rows, notes = [], []
    for key in FACTS["trained_on"][entry.name]:
        dataset = FACTS["datasets"][key]
        size = f"{dataset['images']:,} images"
        if "patients" in dataset:
            size += f" of {dataset['patients']:,} patients"
        title = f"{dataset['title']} {cite(*dataset['sources'])}"
        rows.append((title, dataset["place"], size, population(dataset), dataset["labels"]))
        notes += [f"{dataset['title']}: {dataset['note']}"] if "note" in dataset else []
    head = ("Data set", "From", "Size", "People and views", "Labels")
    return "\n\n".join([table(head, rows), *notes])


def findings(entry: CatalogEntry, cite: Citations) -> str:
    """Return the table of findings: operating points, AUC where it is published, reliability."""
    auc = FACTS["auc"].get(entry.name, {})
    rows = []
    for label, point in entry.operating_points.items():
        values = (
            f"{by_label[label]:.2f}" if label in by_label else "" for by_label in auc.values()
        )
        reliability = entry.reliability.get(label)
        level = reliability.level if reliability else "not known"
        rows.append((label, f"{point:.6g}", *values, level))
    head = ("Finding", "Operating point", *(f"AUC {name}" for name in auc), "Reliability")
    if not auc:
        return (
            f"{table(head, rows)}\n\nAUC: not known. torchxrayvision's benchmarks"
            f" {cite('benchmarks')} have densenet121-res224-all alone."
        )
    return (
        f"{table(head, rows)}\n\nAUC {cite('benchmarks')}: on a fifth of each data set."
        " VinDr-CXR was not trained on, SIIM consists of NIH's images. The fifths were drawn by"
        " patient"
        f" {cite('calibrate')}, the halves for training by image {cite('train')}: they probably"
        " overlap, and the figures for the training sets are then too good. The level of"
        " reliability is cxr-serve's reading of them and of what Chester shows"
        f" {cite('chester')}; `cxr model` prints it with its reason."
    )


def failures(entry: CatalogEntry, cite: Citations) -> str:
    """Return the list of known failures that concern a model."""
    trained_on = set(FACTS["trained_on"][entry.name])
    return "\n".join(
        f"- {failure['text']} {cite(*failure['sources'])}"
        for failure in FACTS["failures"]
        if entry.name in failure.get("models", [entry.name])
        and trained_on & set(failure.get("datasets", trained_on))
    )


def card(entry: CatalogEntry) -> str:
    """Return the model card of a model of the catalogue."""
    cite = Citations()
    size = f"{entry.bytes:,} bytes" if entry.bytes else "size not known"
    sha256 = f"`{entry.sha256}`" if entry.sha256 else "not known: give it, or `--trust-download`"
    notices = "\n".join(f"- {notice}" for notice in NOTICES)
    return f"""\
{WRITTEN}
# {entry.name}

**For research use only. Never for diagnosis: neither the model nor cxr-serve is a medical device.**

{notices}

{
        table(
            ("", ""),
            [
                (
                    "Network",
                    "DenseNet-121 of torchxrayvision, one channel of 224 x 224 px in [-1024, 1024]",
                ),
                ("Trained on", f"{entry.trained_on} {cite('xrv_models')}"),
                ("Licence of the weights", f"{LICENSE} {cite('license')}"),
                ("File", f"[{entry.file_name}]({entry.url}), {size}"),
                ("SHA-256", sha256),
                ("To serve it", f"`cxr-server prepare {entry.name}`"),
            ],
        )
    }

The data sets have terms of their own, which the weights may inherit: read them before any use
beyond research. Chester, the authors' web tool with weights of theirs, is CC BY-NC.

## Training sets

{training_sets(entry, cite)}

Images were rotated by up to 45 degrees, moved by up to 15 % and scaled by up to 15 %; the training
script takes a random half of each data set {
        cite("train")
    }. Which of its images the released weights
saw is not published. Ethnicity, scanners and countries beyond the places above are not known here.

## Findings

{findings(entry, cite)}

The operating points are torchxrayvision's {
        cite("xrv_models")
    }. Its script takes, for each finding, the
probability with the greatest difference of sensitivity and false-positive rate (Youden)
{cite("calibrate")}; on which images is not published. Elsewhere they may be wrong: a study needs
points of its own.

## Known failures

{failures(entry, cite)}

## Sources

{cite.listed()}
"""


def phantom_card() -> str:
    """Return the model card of the phantom that is shipped."""
    model = load_bundle(PHANTOM_PATH).manifest
    rows = (
        (label, f"{point:.6g}", model.reliability[label].note)
        for label, point in zip(model.labels, model.thresholds, strict=True)
    )
    notices = "\n".join(f"- {notice}" for notice in model.notices)
    return f"""\
{WRITTEN}
# phantom

**Its scores say nothing about people.** Radiology tests its machines with phantoms: objects that
look enough like a patient to show whether the machine works. This is one for cxr-serve: a network
trained on radiographs that a program drew, so that everything can be tried offline and without an
image of a person.

{notices}

{
        table(
            ("", ""),
            [
                ("Network", f"{model.network.name}: a small network of torchxrayvision's class"),
                (
                    "Trained on",
                    "drawings of cxr-phantom alone: no radiographs, no other weights",
                ),
                ("People in the training set", "none"),
                ("Licence of the weights", f"{model.license}, as cxr-serve itself"),
                ("To serve it", "it is shipped: `cxr-server serve`"),
            ],
        )
    }

## Findings

Sizes and places follow the bounding boxes of ChestX-ray14; all else is geometry and noise. The
figures say how well the network reads other drawings of the same program.

{table(("Finding", "Operating point", "Reliability"), rows)}

The operating points are those with the greatest difference of sensitivity and false-positive rate
(Youden) on drawings that it was not trained on.

## Known failures

- A real radiograph gets scores, often near 1, and heat maps. They mean nothing: every answer
  carries the warning PHANTOM_MODEL.
- It knows six findings, and each as the program draws it.

[How to retrain the phantom](../how-to/retrain-the-phantom.md) says how it is made.
"""


def index() -> str:
    """Return the page that lists the cards."""
    rows = [
        (
            f"[{entry.name}]({entry.name}.md)",
            entry.trained_on,
            len(entry.operating_points),
            "known" if entry.sha256 else "not known",
        )
        for entry in CATALOG.values()
    ]
    rows.append(
        (
            "[phantom](phantom.md)",
            "drawings",
            len(load_bundle(PHANTOM_PATH).manifest.labels),
            "shipped",
        )
    )
    return f"""\
{WRITTEN}
# Model cards

What each model was trained on and for, how well it does where that is known, how it fails, and on
what terms its weights come. All are for research use only.

{table(("Model", "Trained on", "Findings", "SHA-256 of the file"), rows)}
"""


def pages() -> dict[Path, str]:
    """Return the text of every page by its path."""
    cards = {entry.name: card(entry) for entry in CATALOG.values()}
    cards |= {"phantom": phantom_card(), "README": index()}
    return {FOLDER / f"{name}.md": text for name, text in cards.items()}


if __name__ == "__main__":
    for path, text in pages().items():
        path.write_text(text)
        print(path)
