"""Drift: the command line of `drift` -> a comparison of two runs, printed."""

import argparse
import dataclasses
import json

from cxr_client.cli.files import os_message
from cxr_client.cli.status import EXIT_OK
from cxr_client.cli.text import aligned, printable
from cxr_client.cli.usage import UsageError
from cxr_client.evaluation.drift import drift as drift_of
from cxr_client.evaluation.intervals import Estimate
from cxr_client.evaluation.scores import read_scores
from cxr_client.runs import Run, RunError


def drift(arguments: argparse.Namespace) -> int:
    """Print how far two runs differ.

    Raises:
        UsageError: A file is no run, or the runs cannot be compared.
    """
    try:
        runs = Run.read(arguments.run), Run.read(arguments.other)
        found = drift_of(*runs, *map(read_scores, runs), seed=0)
    except RunError as error:
        raise UsageError(printable(error)) from None
    except OSError as error:
        raise UsageError(f"{error.filename}: {os_message(error)}") from None
    if arguments.json:
        print(json.dumps(dataclasses.asdict(found), allow_nan=False))
        return EXIT_OK
    print(f"{found.images_a} images, then {found.images_b}. {printable(found.sentence)}\n")
    rows = [["finding", "B higher", "KS", "above in A", "above in B", "difference"]]
    rows += [
        [
            each.finding,
            _text(each.higher),
            f"{each.ks_distance:.3f}",
            _text(each.above_a),
            _text(each.above_b),
            _text(each.above_difference),
        ]
        for each in found.findings
    ]
    print("\n".join(aligned(rows)))
    if found.shares:
        shares = [["images", "in A", "in B", "difference"]]
        shares += [
            [each.what, _text(each.share_a), _text(each.share_b), _text(each.difference)]
            for each in found.shares
        ]
        print()
        print("\n".join(aligned(shares)))
    print("\nIntervals are 95 %; images are assumed to be independent.")
    return EXIT_OK


def _text(estimate: Estimate) -> str:
    if estimate.value is None:
        return ""
    if estimate.low is None:
        return f"{estimate.value:.3f}"
    return f"{estimate.value:.3f} [{estimate.low:.3f}, {estimate.high:.3f}]"
