"""Labels: findings as they are typed -> labels of the model. Next: images."""

import re
from collections.abc import Sequence

from cxr_client.cli.usage import UsageError, nearest


def resolve(option: str, typed: Sequence[str], known: Sequence[str]) -> list[str]:
    """Return the labels that are meant, each once: all of them for "all".

    Case does not matter, nor do underscores in place of spaces: a picture's file name spells
    "Lung Opacity" as "Lung_Opacity".

    Raises:
        UsageError: The model has no such finding; it names `option` and the most similar label.
    """
    by_spelling = {_folded(label): label for label in known}
    labels: dict[str, None] = {}
    for word in typed:
        if word.lower() == "all":
            labels |= dict.fromkeys(known)
        elif label := by_spelling.get(_folded(word)):
            labels[label] = None
        else:
            hint = nearest(word, known)
            if "," in word:
                hint = f"; give {option} once for each finding"
            hint += "" if hint.endswith("?") else ";"
            hint += f' "cxr model" lists all {len(known)}'
            raise UsageError(f'{option}: the model has no finding "{word}"{hint}')
    return list(labels)


def _folded(label: str) -> str:
    return re.sub(r"[\s_-]+", " ", label).strip().casefold()
