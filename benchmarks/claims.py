"""Claims: what this server is to reach, beside what was measured."""

import statistics
from collections.abc import Iterator
from functools import partial

from benchmarks import budget, outside_engine
from benchmarks.names import BASELINE, BUDGET_MIB, OURS, OURS_INT8, TRITON, TUNED
from benchmarks.readout import Missing, Results, of_engine, ratios, value
from benchmarks.verdicts import Claim, Verdict, verdict, with_yardsticks


def verdicts(results: Results) -> list[Verdict]:
    """Return all claims with their verdicts."""
    return [verdict(claim) for claim in _claims(results)]


def text(results: Results) -> list[str]:
    """Return the table."""
    lines = [f"{'claim (median; quartiles of the windows)':<60}{'target':>10}{'measured':>10}"]
    for each in verdicts(results):
        claim = each.claim
        shown = "-" if each.measured is None else f"{each.measured:.2f}"
        spread = f"({each.quartiles})" if each.quartiles else ""
        word = each.word if each.word == "met" else each.word.upper()
        said = ": ".join(filter(None, (each.note, word)))
        lines.append(
            f"{claim.what:<60}{claim.relation:>5}{claim.target:>5g}{shown:>10}  {spread:<18}{said}"
        )
    return lines


def _claims(results: Results) -> Iterator[Claim]:
    png, *_ = results["kinds"]
    jpegs = [kind for kind in results["kinds"] if "JPEG" in kind]
    yield from _of_engine(results, png)
    for kind in (png, jpegs[0]):
        for method, least in (("predict", 2.0 if kind == png else 3.0), ("explain", 6.0)):
            yield _ahead(results, kind, method, BASELINE, least)
        yield _ahead(results, kind, "predict", TRITON, budget.AHEAD if kind == png else 1.4)
    for kind in (png, *jpegs):
        yield _ahead(results, kind, "predict", TUNED, budget.AHEAD)
    for kind in (png, *jpegs):
        lone = (kind, "predict", 1, "p50_ms")
        yield Claim(
            f"Predict, {kind}, 1 caller: p50 / {TUNED}'s",
            "<=",
            1.0,
            lambda lone=lone: ratios(results, (OURS, *lone), (TUNED, *lone)),  # type: ignore[misc]
        )
    yield from _int8(results, png)
    yield from _resources(results, png)
    if "outside_engine" in results:
        yield from outside_engine.claims(results["outside_engine"], results["stages_ms"])


def _ahead(results: Results, kind: str, method: str, system: str, least: float) -> Claim:
    cell = (kind, method, 4)
    word = method.title()
    return Claim(
        f"{word}, {kind}, 4 callers: x {system}",
        ">=",
        least,
        *with_yardsticks(lambda each: ratios(results, (each, *cell), (system, *cell))),
        partial(_room, results, kind) if system == TUNED else None,
    )


def _room(results: Results, kind: str) -> str:
    both = budget.shared(results, kind)
    if both.most < budget.AHEAD:
        return f"what is shared allows {both.most:.2f}"
    return f"leaves {both.left_ms(budget.AHEAD):.1f} ms for serving, {both.serving_ms:.1f} taken"


def _of_engine(results: Results, png: str) -> Iterator[Claim]:
    most = results["most_callers"]

    def flat() -> list[float]:
        many, few = (of_engine(results, OURS, png, "predict", callers) for callers in (most, 4))
        return [statistics.median(many) / statistics.median(few)]

    def again() -> list[float]:
        cells = [(OURS, png, method, 1, "p50_ms") for method in ("explain_again", "predict")]
        after, predict = (value(results, *cell) for cell in cells)
        return [after / predict]

    yield Claim(
        f"Predict, {png}, 4 callers: of the engine's rate",
        ">=",
        0.85,
        *with_yardsticks(lambda each: of_engine(results, each, png, "predict", 4)),
    )
    yield Claim(
        f"Explain (overlay), {png}, 4 callers: of the engine's",
        ">=",
        0.80,
        *with_yardsticks(lambda each: of_engine(results, each, png, "explain", 4)),
    )
    yield Claim(
        f"Predict, {png}, 1 caller: p50 / engine's lone call",
        "<=",
        1.3,
        *with_yardsticks(lambda each: of_engine(results, each, png, "predict", 1, "p50_ms")),
    )
    yield Claim(f"Predict, {png}: of the engine's, {most} callers / 4", ">=", 0.95, flat)
    yield Claim(f"Explain after Predict, {png}: p50 / Predict's", "<=", 0.35, again)


def _int8(results: Results, png: str) -> Iterator[Claim]:
    """Of CPUs with instructions for it; elsewhere the tables state the ratio."""
    if results["machine"].get("int8"):
        cell = (png, "predict", 4)
        yield Claim(
            f"Predict, {png}, 4 callers: int8 x float32",
            ">=",
            2.2,
            lambda: ratios(results, (OURS_INT8, *cell), (OURS, *cell)),
        )


def _resources(results: Results, png: str) -> Iterator[Claim]:
    rounds, most = results["rounds"], results["most_callers"]

    def peak() -> list[float]:
        if "memory_in_budget" not in results:
            raise Missing("not in this run")
        return [float(results["memory_in_budget"]["peak_mib"])]

    def in_threads() -> list[float]:
        if "memory_in_threads_mib" not in results:
            raise Missing("not in this run")
        return [results["memory_in_threads_mib"]["rss"] * 1.048576]

    yield Claim(
        "from process start to SERVING, compiled before, s",
        "<=",
        2.0,
        lambda: [each["starts_s"][OURS] for each in rounds],
    )
    yield Claim(
        "resident memory when SERVING, decoding in threads, MB",
        "<=",
        400.0,
        in_threads,
    )
    what = f"peak memory, budget of {BUDGET_MIB}, {most} callers, large files, MiB"
    yield Claim(what, "<=", float(BUDGET_MIB), peak)
