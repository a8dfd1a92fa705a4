"""Run: the data's way as one object. Image bytes -> findings, image bytes -> explanations.

Knows nothing of gRPC: the servicer translates to and from it, and so may any other shell.
"""

import asyncio
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TypeVar

import numpy as np

from cxr_server.errors import MethodUnavailable, UnknownLabel
from cxr_server.explanation.explain import Explanation, explain
from cxr_server.explanation.methods import METHODS, ExplanationMethod
from cxr_server.explanation.render import RenderOptions
from cxr_server.imaging import quality
from cxr_server.imaging.codecs import decode
from cxr_server.imaging.radiograph import DecodeLimits
from cxr_server.inference.cache import EvidenceCache
from cxr_server.inference.engines import Engine
from cxr_server.inference.model_input import Evidence, Prepared, prepare
from cxr_server.inference.scheduler import Scheduler
from cxr_server.inference.scoring import Finding, Readout, findings, ranked

HASHED_AT_ONCE_BYTES = 2**20
"""Files up to this size are hashed on the event loop: a way to a thread and back takes as long."""

R = TypeVar("R")


@dataclass(slots=True)
class Times:
    """Seconds spent in each stage; None where it did not run."""

    decode_s: float | None = None
    queue_s: float | None = None
    inference_s: float | None = None
    render_s: float | None = None
    cached: bool = False


@dataclass(frozen=True, slots=True)
class Predicted:
    """Every finding, best first, with the evidence behind it."""

    findings: tuple[Finding, ...]
    evidence: Evidence
    times: Times


@dataclass(frozen=True, slots=True)
class Explained:
    """The explanations in the order asked for, with the evidence behind them."""

    explanations: tuple[Explanation, ...]
    evidence: Evidence
    times: Times


class Pipeline:
    """Ties decode, fit, scheduler, score, explain and render together.

    Args:
        readout: Labels, operating points and biases of the model.
        scheduler: Gives turns at decode and engine.
        limits: What images are decoded.
        side_px: Side of the network's input.
        cache_entries: How many images' evidence is kept; 0 keeps none.
        threads: Most images hashed or drawn at once.
        engine: For explanation methods that need it.
    """

    def __init__(
        self,
        readout: Readout,
        scheduler: Scheduler,
        *,
        limits: DecodeLimits,
        side_px: int,
        cache_entries: int,
        threads: int,
        engine: Engine,
    ) -> None:
        self.readout = readout
        self.scheduler = scheduler
        self.cache: EvidenceCache[Evidence] = EvidenceCache(cache_entries)
        self.engine = engine
        self._limits = limits
        self._side_px = side_px
        self._artists = ThreadPoolExecutor(threads, thread_name_prefix="render")

    async def predict(
        self, image: bytes, *, strict: bool = False, caller: str = "", deadline: float = np.inf
    ) -> Predicted:
        """Score every finding. Raises ImageError and what `Scheduler.submit` raises."""
        times = Times()
        evidence, _ = await self._read(image, strict, caller, deadline, times)
        scored = ranked(findings(evidence.evidence_khw, self.readout))
        return Predicted(scored, evidence, times)

    async def explain(
        self,
        image: bytes,
        *,
        labels: Sequence[str] = (),
        heatmap_labels: Sequence[str] = (),
        method: ExplanationMethod = ExplanationMethod.GRAD_CAM,
        options: RenderOptions | None = None,
        strict: bool = False,
        caller: str = "",
        deadline: float = np.inf,
    ) -> Explained:
        """Map the evidence of the labels (none: of the top finding).

        Raises:
            UnknownLabel: The model has no such finding.
            MethodUnavailable: The engine does not offer the method.
            ImageError: The image cannot be read, or was refused.
        """
        options = options or RenderOptions()
        self.check(labels, method)
        times = Times()
        drawn_whole = options.needs_radiograph
        evidence, prepared = await self._read(
            image,
            strict,
            caller,
            deadline,
            times,
            pixels=drawn_whole,
            network_input=METHODS[method].needs_engine,
        )
        radiograph = prepared.radiograph if prepared else None
        if drawn_whole and not radiograph:
            started = time.monotonic()
            radiograph = await self._in_thread(lambda: decode(image, self._limits))
            times.decode_s = time.monotonic() - started
        scored = findings(evidence.evidence_khw, self.readout)
        chosen = labels or [ranked(scored)[0].label]
        started = time.monotonic()
        steps = explain(
            evidence,
            scored,
            chosen,
            engine=self.engine,
            method=method,
            options=options,
            heatmap_labels=heatmap_labels,
            image_chw=prepared.image_chw if prepared else None,
            radiograph=radiograph,
        )
        explanations = await self._in_thread(lambda: tuple(steps))
        times.render_s = time.monotonic() - started
        return Explained(explanations, evidence, times)

    def check(self, labels: Sequence[str], method: ExplanationMethod) -> None:
        """Raise UnknownLabel or MethodUnavailable before anything is spent on the image."""
        for label in labels:
            if label not in self.readout.labels:
                raise UnknownLabel("the model has no such finding; DescribeModel lists them")
        if why_not := METHODS[method].why_not(self.engine):
            raise MethodUnavailable(why_not)

    def close(self) -> None:
        """End the threads. No call may follow."""
        self._artists.shutdown()

    async def _read(
        self,
        image: bytes,
        strict: bool,
        caller: str,
        deadline: float,
        times: Times,
        *,
        pixels: bool = False,
        network_input: bool = False,
    ) -> tuple[Evidence, Prepared | None]:
        """Return an image's evidence, and what it was prepared as unless the cache knew it.

        `pixels` keeps the whole image in that, `network_input` makes it in any case.
        """
        key = b""
        if self.cache.capacity:
            key = await self._key_of(image)
            if evidence := self.cache.get(key):
                times.cached = True
                if strict:
                    quality.refuse_unlikely(evidence.warnings)
                if not network_input:
                    return evidence, None
                started = time.monotonic()
                prepared = await self._in_thread(lambda: self._prepare(image, strict, pixels))
                times.decode_s = time.monotonic() - started
                return evidence, prepared
        turn = await self.scheduler.submit(
            lambda: self._prepare(image, strict, pixels),
            caller=caller,
            deadline=deadline,
        )
        times.decode_s, times.queue_s = turn.decode_s, turn.queue_s
        times.inference_s = turn.inference_s
        seen = turn.prepared
        # A row of a batch's array would keep the whole batch alive in the cache.
        evidence = Evidence(turn.evidence_khw.copy(), seen.picture_hw, seen.facts, seen.warnings)
        if self.cache.capacity:
            self.cache.put(key, evidence)
        return evidence, turn.prepared

    def _prepare(self, image: bytes, strict: bool, keep_pixels: bool) -> Prepared:
        return prepare(image, self._limits, self._side_px, strict=strict, keep_pixels=keep_pixels)

    async def _key_of(self, image: bytes) -> bytes:
        if len(image) <= HASHED_AT_ONCE_BYTES:
            return self.cache.key_of(image)
        return await self._in_thread(lambda: self.cache.key_of(image))

    async def _in_thread(self, work: Callable[[], R]) -> R:
        return await asyncio.get_running_loop().run_in_executor(self._artists, work)
