"""Report: the outcomes of a run -> the claims that hold and those that do not."""

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass

from scripts.soak.callers import KINDS, Tally
from scripts.soak.hostile import HostileCallers
from scripts.soak.server import MEMORY_MIB, Server

MIN_GOODPUT_SHARE, MAX_REFUSAL_MS, MAX_HEALTH_P99_MS, MAX_GROWTH = 0.9, 50.0, 100.0, 0.10


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What a run measured.

    Attributes:
        tally: Outcomes of the calls.
        lost: Calls that the server accepted and whose callers got no result.
        capacity_per_s: Correct results per second in a closed loop, before the overload.
        goodput_per_s: Correct results per second under overload.
        cpu_ms: The server's processor time for a correct result, saturated and overloaded.
        health_ms: Latencies of Health under overload, sorted.
        hostile: The hostile callers and what became of their calls.
        dropped_lines: Lines that are missing from the log, by its own count.
        alive: Whether the server still answered after them.
        pss_mib: Median memory of all processes at the start and at the end of the overload.
        peak_mib: The most memory of all processes at any time.
        status: The server's exit status.
    """

    tally: Tally
    lost: Sequence[str]
    capacity_per_s: float
    goodput_per_s: float
    cpu_ms: tuple[float, float]
    health_ms: Sequence[float]
    hostile: HostileCallers
    dropped_lines: int
    alive: bool
    pss_mib: tuple[float, float]
    peak_mib: float
    status: int


def lost_calls(tally: Tally, server: Server) -> list[str]:
    """Return the calls that the server accepted and whose callers got no result.

    Lines of the log may be missing, but not at the end, where calls could be lost.
    """
    lost = []
    for event in server.events("call"):
        request_id, code = event["request_id"], event["code"]
        if request_id not in tally.offered_ids - tally.given_up_ids:
            continue
        if code == "OK" and request_id not in tally.answered_ids:
            lost.append(f"{request_id}: result sent, not received")
        if code in ("UNAVAILABLE", "CANCELLED") and event["request_bytes"]:
            lost.append(f"{request_id}: {code} after it was received")
    return lost


def report(outcome: Outcome, *, untimed: bool) -> int:
    """Print the outcomes and the claims. Returns 0 if all claims hold, else 1."""
    tally, lost, status = outcome.tally, outcome.lost, outcome.status
    capacity, goodput = outcome.capacity_per_s, outcome.goodput_per_s
    health_ms, pss_mib, hostile = outcome.health_ms, outcome.pss_mib, outcome.hostile
    ends, refusal_ms = tally.ends, statistics.median(tally.refusal_ms or [math.nan])
    p99_ms = health_ms[min(len(health_ms) - 1, int(0.99 * len(health_ms)))] if health_ms else 0.0
    growth = pss_mib[1] / pss_mib[0] - 1
    saturated_ms, overloaded_ms = outcome.cpu_ms
    share = saturated_ms / overloaded_ms
    print(f"offered:  {tally.offered.total()} calls, {dict(tally.offered)}")
    accepted = tally.offered.total() - ends["refused"] - ends["refused while draining"]
    print(f"accepted: {accepted}, refused: {ends['refused']}, expired: {ends['expired']}, "
          f"failed: {len(tally.failed)}")  # fmt: skip
    print(f"ends:     {dict(ends)}")
    print(f"server:   {saturated_ms:.0f} ms of processor time a correct result saturated, "
          f"{overloaded_ms:.0f} overloaded = {share:.2f}")  # fmt: skip
    print(f"hostile:  {dict(hostile.ends)}")
    print(f"log:      {outcome.dropped_lines} lines dropped while nobody read it")
    for text in [*tally.failed[:5], *lost[:5], *hostile.failed[:5]]:
        print(f"          {text}")
    claims = [
        ("no answer was mixed up", tally.mixed_up == 0, f"{tally.mixed_up}"),
        ("no call failed", not tally.failed, f"{len(tally.failed)}"),
        ("no accepted call was lost at SIGTERM", not lost, f"{len(lost)}"),
        ("no hostile call failed", not hostile.failed, f"{len(hostile.failed)}"),
        ("the server is alive after the hostile callers", outcome.alive, ""),
        (f"memory below {MEMORY_MIB} MiB", outcome.peak_mib < MEMORY_MIB,
         f"{outcome.peak_mib:.0f} MiB"),
        ("clean exit on SIGTERM", status == 0, f"status {status}"),
        ("every kind of call was offered", len(tally.offered) == len(KINDS), ""),
    ]  # fmt: skip
    timed = [
        (f"goodput at least {MIN_GOODPUT_SHARE} x saturated",
         goodput >= MIN_GOODPUT_SHARE * capacity,
         f"{goodput:.1f}/s = {goodput / capacity:.2f} x {capacity:.1f}/s"),
        (f"median time to a refusal at most {MAX_REFUSAL_MS:.0f} ms",
         refusal_ms <= MAX_REFUSAL_MS, f"{refusal_ms:.1f} ms"),
        (f"Health p99 at most {MAX_HEALTH_P99_MS:.0f} ms", p99_ms <= MAX_HEALTH_P99_MS,
         f"{p99_ms:.1f} ms of {len(health_ms)} calls"),
        (f"memory within {MAX_GROWTH:.0%} of that after warm-up", growth <= MAX_GROWTH,
         f"{pss_mib[0]:.0f} -> {pss_mib[1]:.0f} MiB ({growth:+.1%})"),
    ]  # fmt: skip
    for text, holds, value in [*claims, *timed]:
        print(f"{'ok  ' if holds else 'FAIL'} {text}: {value}")
    return 0 if all(holds for _, holds, _ in (claims if untimed else claims + timed)) else 1
