"""Model: bundle -> ServingModel, on an engine of its own, with resources that models share."""

import asyncio
import math
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from io import BytesIO
from pathlib import Path
from typing import TypeVar

import numpy as np
from PIL import Image

from cxr_server.bundles.load import Bundle
from cxr_server.bundles.store import cache_home
from cxr_server.imaging.codecs import read
from cxr_server.imaging.quality import refuse_unlikely
from cxr_server.imaging.radiograph import DecodeOptions, InputWarning
from cxr_server.inference import threads
from cxr_server.inference.cache import EvidenceCache, LateKey
from cxr_server.inference.engines import DeviceLost, Engine, Output
from cxr_server.inference.model_input import Evidence, ModelInput
from cxr_server.inference.preprocess import (
    Job,
    Preprocessing,
    hold_of,
    preprocess,
    preprocessing_of,
)
from cxr_server.inference.scheduler import Scheduler
from cxr_server.inference.supervisor import EngineSupervisor, engine_has_failed, start_verified
from cxr_server.inference.typicality import UNTYPICAL_BELOW, load_reference
from cxr_server.lifecycle import Lifecycle
from cxr_server.observability.call import Call
from cxr_server.observability.stages import Stage, Stages
from cxr_server.resources import Resources
from cxr_server.settings import Settings

HASHED_ON_LOOP_BYTES = 2**16
"""Files up to this size are hashed on the event loop: a thread hop would take longer."""

R = TypeVar("R")


class ServingModel:
    """A bundle on an engine, behind the cache and the scheduler. Create it on the event loop.

    See `EngineSupervisor` for what happens when the engine fails.
    """

    def __init__(
        self,
        bundle: Bundle,
        preprocessing: Preprocessing,
        engine: Engine,
        start_engine: Callable[[], Engine],
        resources: Resources,
        settings: Settings,
        lifecycle: Lifecycle,
        image_key: bytes,
    ) -> None:
        self.manifest = bundle.manifest
        self.resources = resources
        self.limits = resources.limits
        self.drawing_budget = resources.drawing_budget
        self.cache = EvidenceCache(settings.cache_entries, image_key)
        self._image_key = image_key
        self.scheduler = Scheduler(
            engine, decode_threads=resources.decode_threads, interactive=resources.interactive
        )
        self._preprocessing = preprocessing
        self._reference = load_reference(bundle)
        self._supervisor = EngineSupervisor(
            engine,
            bundle,
            start_engine,
            self.scheduler,
            lifecycle,
            settings.precision,
        )
        self._calls = 0
        self._idle = asyncio.Event()
        self._idle.set()

    @classmethod
    async def load(
        cls,
        bundle: Bundle,
        resources: Resources,
        settings: Settings,
        lifecycle: Lifecycle,
        image_key: bytes = b"",
    ) -> "ServingModel":
        """Start an engine for a bundle.

        With an `image_key`, each image is hashed with it, for the audit file.

        Raises BundleError and EngineUnavailable.
        """
        preprocessing = preprocessing_of(bundle.manifest)
        start = partial(
            start_verified,
            bundle,
            cache_dir=Path(settings.cache_dir) if settings.cache_dir else cache_home(),
            threads=settings.engine_threads or None,
            precision=settings.precision,
        )
        first = partial(start, settings.engine, device=settings.device or None)
        engine = await threads.run("loading", first)
        # A replacement is of the same kind: the scheduler knows its batch limits.
        again = partial(start, engine.name, device=engine.device)
        return cls(
            bundle,
            preprocessing,
            engine,
            again,
            resources,
            settings,
            lifecycle,
            image_key,
        )

    @contextmanager
    def in_use(self) -> Iterator[None]:
        """Keep the model open while a call uses it; see `drained`."""
        self._calls += 1
        self._idle.clear()
        try:
            yield
        finally:
            self._calls -= 1
            if not self._calls:
                self._idle.set()

    async def drained(self) -> None:
        """Wait until no call uses the model."""
        await self._idle.wait()

    @property
    def engine(self) -> Engine:
        """The engine in use, or the one that has failed and is being replaced."""
        return self._supervisor.engine

    @property
    def engine_failures(self) -> int:
        """Number of engine calls that failed, and of losses of the device."""
        return self._supervisor.failures

    @property
    def engine_rebuilds(self) -> Mapping[str, int]:
        """Number of attempts to replace a failed engine, by outcome: rebuilt, or failed."""
        return self._supervisor.rebuilds

    @property
    def waiting_to_draw(self) -> int:
        """Number of calls that wait for a thread that draws."""
        return self.resources.drawing.waiting + self.resources.slow_maps.waiting

    async def image_size(self, image: bytes, call: Call) -> tuple[int, int]:
        """Return height and width of an image, as stored. Raises ImageError."""
        header = (await self._read(partial(read, image, self.limits), call)).header
        return header.height_px, header.width_px

    async def evidence(
        self,
        image: bytes,
        call: Call,
        stages: Stages,
        *,
        strict: bool = False,
        options: DecodeOptions = DecodeOptions(),  # noqa: B008 -- frozen
        use_cache: bool = True,
        needs_input: bool = False,
        needs_whole: bool = False,
    ) -> tuple[Evidence, ModelInput | None]:
        """Return an image's evidence, and the input if it was made.

        The evidence comes from the cache if possible and allowed.

        The input is always made if it or the whole image is needed. `strict` and the errors are
        those of `preprocess`, and `Scheduler.submit` has errors of its own.
        """
        job = Job(
            preprocessing=self._preprocessing,
            side_px=self.manifest.input_side_px,
            limits=self.limits,
            options=options,
            strict=strict,
            keep_whole=needs_whole,
        )
        key, late_key, evidence = b"", None, None
        kind = options.presentation.encode()  # equal bytes read in another way are another image
        use_cache = use_cache and self.cache.capacity > 0
        if use_cache and not self._image_key and self.cache.is_new(image):
            late_key = LateKey(self.cache, image)
        elif use_cache or self._image_key:
            key = await self._key(image, call)
            evidence = self.cache.get(key + kind) if use_cache else None
        if evidence and strict:
            facts = evidence.facts
            refuse_unlikely(evidence.warnings, facts.display_range, facts.presentation)
        if evidence and not (needs_input or needs_whole):
            return evidence, None
        made, output = await self.scheduler.submit(
            self._decoding(image, job, call, late_key.find if late_key else _nothing),
            stages=stages,
            caller=call.caller,
            deadline=call.deadline,
            infer=evidence is None,
            bulk=call.bulk,
        )
        if output is not None:
            evidence = self._evidence_of(made, output)
            if use_cache:
                self.cache.put((late_key.key if late_key else key) + kind, image, evidence)
        assert evidence is not None  # cached, or from the engine
        return evidence, made

    async def _key(self, image: bytes, call: Call) -> bytes:
        """Return a file's key in the cache, which the audit file has as well, if there is one."""
        place = len(call.image_hmacs)  # hashes of large images come later
        if self._image_key:
            call.image_hmacs.append("")
        if len(image) <= HASHED_ON_LOOP_BYTES:
            key = self.cache.key_of(image)
        else:
            key = await self._read(partial(self.cache.key_of, image), call)
        if self._image_key:
            call.image_hmacs[place] = key.hex()
        return key

    def _decoding(
        self, image: bytes, job: Job, call: Call, find_key: Callable[[], None]
    ) -> Callable[[], ModelInput]:
        """Return what a decode thread does with an image: the work itself, or to wait for it.

        It finds the key before, or while it waits.
        """
        hold, check = hold_of(self.resources.decode_budget, call.check), call.check
        in_process = partial(
            self.resources.processes.preprocess, image, job, hold=hold, check=check
        )
        if self.resources.in_processes:
            return partial(in_process, meanwhile=find_key)

        def in_thread() -> ModelInput:
            find_key()
            return preprocess(image, job, hold=hold, check=check, isolated=in_process)

        return in_thread

    def _evidence_of(self, made: ModelInput, output: Output) -> Evidence:
        """Return copies, since rows of a batch would keep the whole batch alive in the cache."""
        embedding_c, typicality, warnings = None, None, made.warnings
        if output.embedding_c is not None:
            embedding_c = np.array(output.embedding_c)
            if self._reference:
                typicality = self._reference.typicality(embedding_c)
                if typicality < UNTYPICAL_BELOW:
                    warnings = (*warnings, InputWarning.UNTYPICAL_IMAGE)
        return Evidence(
            np.array(output.evidence_khw),
            made.picture_hw,
            made.facts,
            warnings,
            embedding_c,
            typicality,
        )

    async def _read(self, read: Callable[[], R], call: Call) -> R:
        """Run `read` in a thread for reading files only, where it never waits for slow work."""
        (result,) = await self.resources.files.run(
            (read() for _ in "1"), deadline=call.deadline, bulk=call.bulk
        )
        return result

    def check_room(self, *, slow: bool) -> None:
        """Raise QueueFull if `draw` would refuse, before work is spent on the image."""
        (self.resources.slow_maps if slow else self.resources.drawing).check()

    async def draw(
        self, maps: Callable[[Engine], Iterable[R]], call: Call, stages: Stages, *, slow: bool
    ) -> list[R]:
        """Make and draw maps one by one in a thread, given the engine in use when it begins.

        Slow maps, which the engine makes and which may take minutes, share a thread of their own.
        Raises ModelLoading if the engine was replaced or lost meanwhile, and what `WorkerPool.run`
        raises.
        """
        submitted_s = time.monotonic()

        def steps() -> Iterator[R]:
            engine, start_s = self.engine, time.monotonic()
            stages.add(Stage.QUEUE, submitted_s, start_s)
            try:
                yield from maps(engine)
            except Exception:
                if self._supervisor.lost or self.engine is not engine:  # closed meanwhile
                    raise engine_has_failed() from None
                raise
            stages.add(Stage.RENDER, start_s, time.monotonic())

        pool = self.resources.slow_maps if slow else self.resources.drawing
        try:
            return await pool.run(steps(), deadline=call.deadline, bulk=call.bulk)
        except DeviceLost as error:
            self._supervisor.failed(error)
            raise engine_has_failed() from None

    def warm_up_image(self) -> bytes:
        """Return an image file within the limits."""
        limits = self.limits
        most_px = min(limits.max_side_px, math.isqrt(limits.max_pixel_count))
        side_px = min(max(256, limits.min_side_px), most_px)
        file = BytesIO()
        Image.linear_gradient("L").resize((side_px, side_px)).save(file, "PNG")
        return file.getvalue()

    def warmed_up(self) -> None:
        """Forget the images so far. From now on a failed engine is replaced."""
        self.cache = EvidenceCache(self.cache.capacity, self._image_key)
        self.scheduler.on_failure = self._supervisor.failed

    @property
    def full_cache_bytes(self) -> int:
        """What the cache takes when it is full."""
        grids = len(self.manifest.labels) * self.manifest.evidence_side**2
        return self.cache.capacity * (self.manifest.input_side_px**2 + 4 * grids)

    async def close(self) -> None:
        """Fail what waits, finish what runs but maps, and release the engine."""
        await self._supervisor.close()


def _nothing() -> None:
    """Find no key."""
