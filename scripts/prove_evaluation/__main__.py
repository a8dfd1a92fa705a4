"""Prove it: phantoms -> a run that is killed -> its evaluation -> the same figures by others.

    draw -> run, killed twice, its server once -> run at one go -> evaluate -> compare -> look

`make prove-evaluation` draws 2,000 phantoms with exact masks, which takes some minutes and is kept
in build/proof; PROOF_ARGS="--count 200" takes fewer. The exit status says whether nothing was lost
or written twice, and every figure equals the independent one.
"""

import argparse
import json
import os
import shutil
import sys
from pathlib import Path
from typing import Any

from scripts.prove_evaluation import bulk, regions, scores
from scripts.prove_evaluation.films import BROKEN, FINDINGS, DataSet, prepare
from scripts.prove_evaluation.table import Pair, markdown, side_by_side


def main() -> int:
    """Run the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=2000, help="phantoms (default: 2000)")
    parser.add_argument("--output", type=Path, default=Path("build/proof"), metavar="DIR")
    parser.add_argument("--no-browser", action="store_true", help="leave Chromium out")
    arguments = parser.parse_args()
    root: Path = arguments.output / str(arguments.count)
    data = prepare(root, arguments.count, workers=len(os.sched_getaffinity(0)))
    runs = root / "runs"
    shutil.rmtree(runs, ignore_errors=True)
    runs.mkdir()
    failed = _run(data, runs, arguments.count)
    failed += _evaluate(data, runs, browser=not arguments.no_browser)
    print(f"\n{'FAIL: ' + ', '.join(failed) if failed else 'everything holds'}")
    return 1 if failed else 0


def _run(data: DataSet, runs: Path, count: int) -> list[str]:
    """Run in bulk, once with interruptions; return what does not hold."""
    killed, whole = runs / "killed.parquet", runs / "whole.parquet"
    with bulk.serving(runs / "server.log") as server:
        lives = bulk.interrupted(server, data.films, killed, count)
        lives.append(bulk.uninterrupted(server, data.films, whole))
    words = ["killed", "resumed, killed", "resumed, server killed and restarted", "at one go"]
    rows = [
        [word, life.status, f"{life.wall_s:.1f}", f"{life.cpu_s:.1f}", f"{life.peak_mib:.0f}"]
        for word, life in zip(words, lives, strict=True)
    ]
    print(markdown(["Run", "Exit status", "Wall, s", "Processor, s", "Peak memory, MiB"], rows))
    journals = [path.with_name(f"{path.name}.jsonl") for path in (killed, whole)]
    found = {
        path.stem: bulk.faults(journal, path, data.films, path.with_suffix(".maps"))
        for path, journal in zip((killed, whole), journals, strict=True)
    }
    counted = [[what, *(each[what] for each in found.values())] for what in found["killed"]]
    print("\n" + markdown([f"Of {count + BROKEN} files", *found], counted))
    difference = bulk.greatest_difference(*journals)
    print(f"\nGreatest difference of a probability between the two runs: {difference:.1g}")
    failed = [str(what) for what, *counts in counted if any(counts)]
    failed += [] if difference < 1e-4 else ["the runs differ"]
    # Broken files are failures, so a complete run ends with 1.
    return failed + ([] if [life.status for life in lives] == [-9, -9, 1, 1] else ["exit status"])


def _evaluate(data: DataSet, runs: Path, *, browser: bool) -> list[str]:
    """Evaluate the run that was killed, and compare; return what does not hold."""
    journal, other = runs / "killed.parquet.jsonl", runs / "whole.parquet.jsonl"
    masks = [data.run_lengths, "--regions-format", "chexlocalize"]
    boxes = [data.boxes, "--regions-format", "csv"]
    evaluations = {
        "masks": ["--labels", data.labels, "--regions", *masks],
        "boxes": ["--labels", data.labels_without_patients, "--regions", *boxes],
        "two-runs": [other, "--labels", data.labels],
    }
    rows, documents = [], {}
    for name, words in evaluations.items():
        report = runs / f"{name}.html"
        command = ["evaluate", journal, *words, "--format", "csv", "--output", report]
        took = bulk.cxr(*command)
        documents[name] = json.loads(report.with_suffix(".json").read_text())
        rows.append([name, f"{took.wall_s:.1f}", f"{took.cpu_s:.1f}", f"{took.peak_mib:.0f}"])
    print("\n" + markdown(["Evaluation", "Wall, s", "Processor, s", "Peak memory, MiB"], rows))
    pairs = _pairs(documents, journal, data)
    print(f"\n{side_by_side(pairs, ['', *FINDINGS])}")
    agreeing = sum(pair.agrees for pair in pairs)
    print(f"\n{agreeing} of {len(pairs)} figures agree with the independent ones.")
    failed = [f"{pair.figure} of {pair.finding}" for pair in pairs if not pair.agrees]
    if any(each["raised"] + each["lowered"] for each in documents["two-runs"]["findings"]):
        failed.append("the two runs are told apart")
    if browser:
        failed += _look([runs / f"{name}.html" for name in evaluations])
    return failed


def _pairs(documents: dict[str, dict[str, Any]], journal: Path, data: DataSet) -> list[Pair]:
    table = scores.frame(journal, data.labels)
    bare = scores.frame(journal, data.labels_without_patients)
    localised = {name: documents[name]["localisation"] for name in ("masks", "boxes")}
    return [
        *scores.with_patients(documents["masks"], table),
        *scores.without_patients(documents["boxes"], bare),
        *regions.compare(localised["masks"], journal, data, table, boxes=False),
        *regions.compare(localised["boxes"], journal, data, bare, boxes=True),
    ]


def _look(reports: list[Path]) -> list[str]:
    from scripts.prove_evaluation.page import photograph

    failed = []
    for report in reports:
        for text in photograph(report):
            failed.append(f"{report.name} says in Chromium: {text}")
        print(f"\nlook at {report.with_suffix('')}-*.png")
    return failed


if __name__ == "__main__":
    sys.exit(main())
