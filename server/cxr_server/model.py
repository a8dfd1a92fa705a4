"""Model: settings -> ServingModel, a bundle on an engine."""

import math
import time
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from io import BytesIO
from pathlib import Path
from typing import TypeVar

import numpy as np
import structlog
from PIL import Image

from cxr_server.budget import ByteBudget, ThreadBudget
from cxr_server.bundles.load import Bundle, load_bundle
from cxr_server.bundles.store import cache_home, resolve
from cxr_server.imaging.codecs import read
from cxr_server.imaging.quality import refuse_unlikely
from cxr_server.imaging.radiograph import DecodeLimits, DecodeOptions, InputWarning
from cxr_server.inference import threads
from cxr_server.inference.cache import EvidenceCache
from cxr_server.inference.decode_processes.pool import DecodeProcesses
from cxr_server.inference.engines import DeviceLost, Engine, Output
from cxr_server.inference.engines.cores import usable_cores
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
from cxr_server.inference.worker_pool import WorkerPool
from cxr_server.lifecycle import Lifecycle
from cxr_server.memory import Memory, beyond_process_share
from cxr_server.observability.call import Call
from cxr_server.observability.metrics import Metrics
from cxr_server.observability.stages import Stage, Stages
from cxr_server.settings import MIB, Settings

MAX_SLOW_EXPLANATIONS = 8  # number of calls that may run or wait for a method that needs the engine
MIN_DRAWING_BYTES = 64 * MIB  # enough for a picture of 1024 pixels a side
HASHED_ON_LOOP_BYTES = 2**20
"""Files up to this size are hashed on the event loop: a thread hop would take longer."""

R = TypeVar("R")
log = structlog.get_logger("cxr_server")


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
        processes: DecodeProcesses,
        settings: Settings,
        memory: Memory,
        lifecycle: Lifecycle,
        metrics: Metrics,
        image_key: bytes,
    ) -> None:
        self.manifest = bundle.manifest
        self.cache = EvidenceCache(settings.cache_entries, image_key)
        self._image_key = image_key
        self.scheduler = Scheduler(engine, decode_threads=memory.decode_threads)
        self.limits = DecodeLimits(
            settings.min_side_px, settings.max_side_px, memory.max_pixel_count
        )
        self.drawing_budget = ByteBudget(memory.drawing_bytes)
        self._decode_budget = ThreadBudget(memory.decode_bytes)
        self._preprocessing = preprocessing
        self.processes = processes
        self._in_processes = memory.in_processes
        self._reference = load_reference(bundle)
        self._supervisor = EngineSupervisor(
            engine, bundle, start_engine, self.scheduler, lifecycle, metrics
        )
        self._files = WorkerPool("files", 1, settings.max_in_flight)
        drawing_threads = settings.decode_threads or usable_cores()
        self._drawing = WorkerPool("drawing", drawing_threads, settings.max_in_flight)
        self._slow_maps = WorkerPool("saliency", 1, MAX_SLOW_EXPLANATIONS)

    @classmethod
    async def load(
        cls,
        settings: Settings,
        memory: Memory,
        lifecycle: Lifecycle,
        metrics: Metrics,
        image_key: bytes = b"",
    ) -> "ServingModel":
        """Load the bundle and start an engine for it.

        With an `image_key`, each image is hashed with it, for the audit file.

        Raises BundleError, EngineUnavailable and DecodeProcessesUnavailable.
        """
        home = Path(settings.bundle_home) if settings.bundle_home else None
        bundle = await threads.run("loading", lambda: load_bundle(resolve(settings.model, home)))
        preprocessing = preprocessing_of(bundle.manifest)
        start = partial(
            start_verified,
            bundle,
            cache_dir=Path(settings.cache_dir) if settings.cache_dir else cache_home(),
            threads=settings.engine_threads or None,
            precision=settings.precision,
        )
        first = partial(start, settings.engine, device=settings.device or None)
        processes = decode_processes(memory, bundle.manifest.input_side_px, metrics)
        try:
            if memory.in_processes:  # beside the engine, which takes longer
                processes.start()
            engine = await threads.run("loading", first)
        except BaseException:
            processes.close()
            raise
        # A replacement is of the same kind: the scheduler knows its batch limits.
        again = partial(start, engine.name, device=engine.device)
        return cls(
            bundle,
            preprocessing,
            engine,
            again,
            processes,
            settings,
            memory,
            lifecycle,
            metrics,
            image_key,
        )

    @property
    def engine(self) -> Engine:
        """The engine in use, or the one that has failed and is being replaced."""
        return self._supervisor.engine

    @property
    def waiting_to_draw(self) -> int:
        """Number of calls that wait for a thread that draws."""
        return self._drawing.waiting + self._slow_maps.waiting

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
        needs_input: bool = False,
        needs_whole: bool = False,
    ) -> tuple[Evidence, ModelInput | None]:
        """Return an image's evidence, from the cache if possible, and the input if it was made.

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
        key = b""
        is_hashed = self.cache.capacity or self._image_key
        if is_hashed and len(image) <= HASHED_ON_LOOP_BYTES:
            key = self.cache.key_of(image)
        elif is_hashed:
            key = await self._read(partial(self.cache.key_of, image), call)
        if self._image_key:
            call.image_hmacs.append(key.hex())
        key += options.presentation.encode()  # equal bytes read in another way are another image
        evidence = self.cache.get(key)
        if evidence and strict:
            facts = evidence.facts
            refuse_unlikely(evidence.warnings, facts.display_range, facts.presentation)
        if evidence and not (needs_input or needs_whole):
            return evidence, None
        made, output = await self.scheduler.submit(
            self._decoding(image, job, call),
            stages=stages,
            caller=call.caller,
            deadline=call.deadline,
            infer=evidence is None,
            bulk=call.bulk,
        )
        if output is not None:
            evidence = self._evidence_of(made, output)
            self.cache.put(key, evidence)
        assert evidence is not None  # it was cached, or the engine has run
        return evidence, made

    def _decoding(self, image: bytes, job: Job, call: Call) -> Callable[[], ModelInput]:
        """Return what a decode thread does with an image: the work itself, or to wait for it."""
        hold, check = hold_of(self._decode_budget, call.check), call.check
        in_process = partial(self.processes.preprocess, image, job, hold=hold, check=check)
        if self._in_processes:
            return in_process
        return partial(preprocess, image, job, hold=hold, check=check, isolated=in_process)

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
        """Read a file in a thread that does nothing else, so that nothing slow is ahead."""
        (result,) = await self._files.run(
            (read() for _ in "1"), deadline=call.deadline, bulk=call.bulk
        )
        return result

    def check_room(self, *, slow: bool) -> None:
        """Raise QueueFull if `draw` would refuse, before work is spent on the image."""
        (self._slow_maps if slow else self._drawing).check()

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

        pool = self._slow_maps if slow else self._drawing
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
        """Forget the images so far. From now on a failed engine is replaced.

        What the model takes beyond its share of the memory is no longer drawn with.
        """
        self.cache = EvidenceCache(self.cache.capacity, self._image_key)
        grids = len(self.manifest.labels) * self.manifest.evidence_side**2
        cached_bytes = self.manifest.input_side_px**2 + 4 * grids
        self.scheduler.on_failure = self._supervisor.failed
        if beyond_bytes := beyond_process_share(self.cache.capacity * cached_bytes):
            budget = self.drawing_budget
            budget.limit_bytes = max(MIN_DRAWING_BYTES, budget.limit_bytes - beyond_bytes)
            left_mib = budget.limit_bytes // MIB
            log.warning("the model needs memory of drawing", left_for_drawing_mib=left_mib)

    async def close(self) -> None:
        """Fail what waits, finish what runs but maps, and release the engine."""
        for pool in (self._files, self._drawing, self._slow_maps):
            pool.close()
        await self._supervisor.close()
        await threads.run("closing", self.processes.close)


def decode_processes(memory: Memory, side_px: int, metrics: Metrics) -> DecodeProcesses:
    """Return the processes that decode images, none of which is started yet."""
    result_bytes = 5 * side_px**2 + memory.max_pixel_count  # input, picture, and the whole image
    arena_bytes = max(memory.max_request_bytes, result_bytes)
    return DecodeProcesses(memory.decode_processes, arena_bytes=arena_bytes, metrics=metrics)
