"""Names: a run with hashed names and its label file -> the names that the label file has."""

from collections.abc import Iterable
from dataclasses import replace
from pathlib import PurePosixPath

from cxr_client.bulk.identity import Identity
from cxr_client.evaluation.labels.label_set import LabelError, LabelSet
from cxr_client.evaluation.scores import Scores
from cxr_client.suffixes import without_suffix


def reveal(scores: Scores, labels: LabelSet, secret: bytes) -> Scores:
    """Return the scores with the names of images in place of their hashes.

    Parts of names that the label file does not hold stay hashed.

    Raises:
        LabelError: The names of the run are hashed, and not with this secret.
    """
    identity = Identity(secret=secret)
    recorded = scores.header["options"].get("anonymous_names", "")
    if not (recorded or secret):
        return scores
    if recorded != identity.fingerprint():
        raise LabelError(
            "the names of the run are hashed with another secret"
            if secret and recorded
            else "the names of the run are not hashed: leave --anonymous-names out"
            if secret
            else "the names of the run are hashed: --anonymous-names SECRET finds their labels"
        )
    suffixes = {PurePosixPath(file).suffix for file in scores.files}
    known = {identity.part(word): word for word in _words(labels, suffixes)}

    def clear(file: str) -> str:
        path = PurePosixPath(file)
        *folders, stem = PurePosixPath(without_suffix(file)).parts
        # Hashed file names are the hash of name and suffix, followed by the suffix.
        name = known.get(stem, "")
        return "/".join([*(known.get(each, each) for each in folders), name or path.name])

    return replace(scores, files=tuple(map(clear, scores.files)))


def _words(labels: LabelSet, suffixes: Iterable[str]) -> Iterable[str]:
    """Yield what folders and files of the label file's images may be called."""
    endings = {"", *suffixes, *(suffix.upper() for suffix in suffixes)}
    for key in labels.keys:
        *folders, stem = key.split("/")
        yield from folders
        if labels.unit == "study":
            yield f"s{key}"  # the folder of a study in MIMIC
        for ending in endings:
            yield stem + ending
