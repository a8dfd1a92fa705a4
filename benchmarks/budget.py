"""Budget: processor time of an image in this server and in Triton tuned, and what they share.

Both run the same engine, decoder, checks and resizing. What a server can be faster by is therefore
bounded: by the time of the other, over that of what is shared.
"""

from dataclasses import dataclass

from benchmarks import readout
from benchmarks.names import (
    BARE,
    BARE_ISOLATED,
    ENGINE,
    ENGINE_BF16,
    ENGINE_INT8,
    OURS,
    OURS_BF16,
    OURS_INT8,
    TUNED,
    TUNED_INT8,
)
from benchmarks.readout import Missing, Results

AHEAD = 1.1
"""How much faster than Triton tuned this server is to be."""
CALLERS = 4
SHARED_STAGES = ("header", "decode", "checks", "resize")
SYSTEMS = (
    *(ENGINE, OURS, BARE_ISOLATED, BARE, TUNED),
    *(ENGINE_BF16, OURS_BF16, ENGINE_INT8, OURS_INT8, TUNED_INT8),
)
Threads = dict[str, tuple[float, dict[str, float]]]
"""Processor time by system: in all, and by thread or process, ms."""


@dataclass(frozen=True, slots=True)
class Shared:
    """Processor time of a Predict, ms an image, callers on the same cores.

    Attributes:
        engine_ms: Of the engine alone.
        stages_ms: Of decoding, checks and resizing alone.
        ours_ms, tuned_ms: Of the servers.
        our_caller_ms, tuned_caller_ms: Of the callers.
    """

    engine_ms: float
    stages_ms: float
    ours_ms: float
    tuned_ms: float
    our_caller_ms: float
    tuned_caller_ms: float

    @property
    def work_ms(self) -> float:
        """What both servers take for the same work."""
        return self.engine_ms + self.stages_ms

    @property
    def most(self) -> float:
        """How much faster a server could be that takes nothing but what is shared."""
        least_ms = self.work_ms + self.our_caller_ms
        return (self.tuned_ms + self.tuned_caller_ms) / least_ms

    @property
    def serving_ms(self) -> float:
        """What this server takes for all else: gRPC, event loop, hand-over, colder caches."""
        return self.ours_ms - self.work_ms

    def left_ms(self, ahead: float) -> float:
        """What it may take for that to be so many times as fast."""
        return (self.tuned_ms + self.tuned_caller_ms) / ahead - self.work_ms - self.our_caller_ms


def shared(results: Results, kind: str) -> Shared:
    """Return what Predict of a kind of image takes. Raises Missing."""
    if "stages_ms" not in results:
        raise Missing("not in this run")

    def cell(system: str, what: str) -> float:
        return readout.value(results, system, kind, "predict", CALLERS, what)

    stages = results["stages_ms"][kind]
    return Shared(
        cell(ENGINE, "cpu_ms"),
        sum(stages[name] for name in SHARED_STAGES),
        *(cell(system, what) for what in ("cpu_ms", "caller_ms") for system in (OURS, TUNED)),
    )


def by_thread(results: Results, kind: str) -> Threads:
    """Return a Predict's time in each system: in all, and by thread or process, ms."""
    found = {}
    for system in SYSTEMS:
        windows = readout.windows(results, system, kind, "predict", CALLERS)
        if windows:
            whole_ms = readout.value(results, system, kind, "predict", CALLERS, "cpu_ms")
            known = [each for each in windows.values() if "threads_ms" in each]
            found[system] = whole_ms, readout.threads_ms(known)
    return found


def text(results: Results) -> list[str]:
    """Return the table."""
    lines = ["processor time of a Predict with 4 callers, ms an image, by thread or process"]
    for kind in results["stages_ms"]:
        for system, (whole_ms, threads) in by_thread(results, kind).items():
            parts = ", ".join(f"{name} {ms:.2f}" for name, ms in threads.items())
            lines.append(f"{kind:<18}{system:<22}{whole_ms:>7.2f}  {parts}")
        try:
            both = shared(results, kind)
        except Missing:
            continue
        lines.append(
            f"{kind:<18}shared: engine {both.engine_ms:.2f}, stages {both.stages_ms:.2f}; "
            f"not shared {both.serving_ms:.2f} and "
            f"{both.tuned_ms - both.work_ms:.2f}; callers "
            f"{both.our_caller_ms:.2f} and {both.tuned_caller_ms:.2f}: at most "
            f"{both.most:.2f} x {TUNED}; {both.left_ms(AHEAD):.2f} left for {AHEAD} x"
        )
    return lines
