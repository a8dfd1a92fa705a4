"""Model: settings -> ServingModel, a bundle on an engine. The only owner of the engine."""

import asyncio
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import replace
from io import BytesIO
from pathlib import Path

import numpy as np
import structlog
from PIL import Image

from cxr_server.bundles.load import Bundle, BundleError, load_bundle
from cxr_server.bundles.manifest import Manifest
from cxr_server.bundles.store import cache_home, resolve
from cxr_server.errors import ModelLoading
from cxr_server.explanation.explain import Explanation, explain
from cxr_server.explanation.methods import MethodSpec
from cxr_server.explanation.render import RenderOptions
from cxr_server.imaging.quality import refuse_unlikely
from cxr_server.imaging.radiograph import DecodeLimits
from cxr_server.inference.cache import EvidenceCache
from cxr_server.inference.engines import Engine
from cxr_server.inference.engines.cores import usable_cores
from cxr_server.inference.engines.registry import choose_engine
from cxr_server.inference.model_input import Evidence, ModelInput
from cxr_server.inference.preprocess import PREPROCESSINGS, preprocess
from cxr_server.inference.scheduler import Scheduler
from cxr_server.inference.scoring import Finding
from cxr_server.inference.stages import Stages
from cxr_server.inference.worker_pool import WorkerPool
from cxr_server.lifecycle import Lifecycle, Phase
from cxr_server.observability.call import Call
from cxr_server.observability.metrics import Metrics
from cxr_server.settings import Settings

MAX_SLOW_EXPLANATIONS = 8
"""Number of calls that may run or wait for a method that needs the engine."""
REBUILD_TRIES = 3
REBUILD_PAUSE_S = 0.5
HASHED_ON_LOOP_BYTES = 2**20
"""Files up to this size are hashed on the event loop: a thread hop would take longer."""

log = structlog.get_logger("cxr_server")


class ServingModel:
    """A bundle on an engine, behind the cache and the scheduler. Create it on the event loop.

    A failed engine is replaced by one of the same kind, while requests wait for it. If that fails
    `REBUILD_TRIES` times, the lifecycle is told that the model is given up.

    Attributes:
        engine: The engine in use; replaced when it has failed.
        engine_failed: Whether it has failed and is not replaced yet.
    """

    def __init__(
        self,
        bundle: Bundle,
        engine: Engine,
        settings: Settings,
        lifecycle: Lifecycle,
        metrics: Metrics,
    ) -> None:
        self.manifest: Manifest = bundle.manifest
        self.engine = engine
        self.engine_failed = False
        self.cache = EvidenceCache(settings.cache_entries)
        decode_threads = settings.decode_threads or usable_cores()
        self.scheduler = Scheduler(engine, decode_threads=decode_threads)
        self._bundle = bundle
        # A rebuilt engine is of the same kind: the scheduler knows its batch limits.
        self._settings = replace(settings, engine=engine.name, device=engine.device)
        self._lifecycle = lifecycle
        self._metrics = metrics
        self._preprocessing = PREPROCESSINGS[bundle.manifest.preprocessing_id]
        self.limits = DecodeLimits(
            min_side_px=settings.min_side_px,
            max_side_px=settings.max_side_px,
            max_pixel_count=settings.max_pixels,
        )
        self._drawing = WorkerPool(decode_threads, settings.max_in_flight)
        self._slow_maps = WorkerPool(1, MAX_SLOW_EXPLANATIONS)
        self._rebuilding: asyncio.Task[None] | None = None

    @classmethod
    async def load(
        cls, settings: Settings, lifecycle: Lifecycle, metrics: Metrics
    ) -> "ServingModel":
        """Load the bundle and start the engine.

        Raises:
            BundleError: The bundle is missing, damaged or not supported.
            EngineUnavailable: The engine cannot run here.
        """
        bundle = await asyncio.to_thread(read_bundle, settings)
        engine = await asyncio.to_thread(start_engine, bundle, settings)
        return cls(bundle, engine, settings, lifecycle, metrics)

    async def evidence(
        self,
        image: bytes,
        call: Call,
        stages: Stages,
        *,
        strict: bool = False,
        needs_input: bool = False,
        needs_radiograph: bool = False,
    ) -> tuple[Evidence, ModelInput | None]:
        """Return an image's evidence, from the cache if possible, and the input if it was made.

        Args:
            image: The file's bytes.
            call: Whose turn and whose deadline.
            stages: Records what ran.
            strict: Refuse an image that does not look like a frontal chest radiograph.
            needs_input: Make the network's input in any case.
            needs_radiograph: Make it in any case, and keep the whole image.

        Raises:
            ImageError: The image cannot be decoded, or was refused.
            Exception: What `Scheduler.submit` raises.
        """
        evidence, key = None, b""
        if self.cache.capacity:
            key = await self._key_of(image)
            evidence = self.cache.get(key)
        if evidence:
            if strict:
                refuse_unlikely(evidence.warnings)
            if not (needs_input or needs_radiograph):
                return evidence, None
        result = await self.scheduler.submit(
            lambda: preprocess(
                image,
                self._preprocessing,
                side_px=self.manifest.input_side_px,
                limits=self.limits,
                strict=strict,
                keep_radiograph=needs_radiograph,
            ),
            stages=stages,
            caller=call.caller,
            deadline=call.deadline,
            infer=evidence is None,
        )
        made = result.prepared
        if evidence is None:
            # A copy, since a row of a batch would keep the whole batch alive in the cache.
            evidence_khw = result.evidence_khw.copy()
            evidence = Evidence(evidence_khw, made.picture_hw, made.facts, made.warnings)
            if self.cache.capacity:
                self.cache.put(key, evidence)
        return evidence, made

    async def explain(
        self,
        evidence: Evidence,
        made: ModelInput | None,
        scored: Sequence[Finding],
        labels: Sequence[str],
        call: Call,
        *,
        method: MethodSpec,
        options: RenderOptions,
        heatmap_labels: Sequence[str],
    ) -> tuple[Explanation, ...]:
        """Make and draw maps in a thread; see `explanation.explain`.

        A method that needs the engine may take minutes, and has a thread of its own.

        Raises:
            QueueFull: Too many calls wait for such a method.
            DeadlineExpired: The deadline passed before the last map.
            ModelLoading: The engine was replaced in the meantime.
        """

        def maps() -> Iterator[Explanation]:
            engine = self.engine  # of the moment when a thread begins
            try:
                yield from explain(
                    evidence,
                    scored,
                    labels,
                    engine=engine,
                    method=method.name,
                    options=options,
                    heatmap_labels=heatmap_labels,
                    image_chw=made.image_chw if made else None,
                    radiograph=made.radiograph if made else None,
                )
            except Exception:
                if self.engine_failed or self.engine is not engine:  # closed meanwhile
                    raise ModelLoading("the engine has failed", retry_after_ms=1000) from None
                raise

        pool = self._slow_maps if method.needs_engine else self._drawing
        return tuple(await pool.run(maps(), deadline=call.deadline))

    def warmed_up(self) -> None:
        """Forget the images so far. From now on a failed engine is replaced."""
        self.cache.clear()
        self.scheduler.on_failure = self._engine_failed

    async def close(self) -> None:
        """Fail what waits, finish what runs but maps, and release the engine."""
        self._drawing.close()
        self._slow_maps.close()
        if self._rebuilding:
            self._rebuilding.cancel()
            with suppress(asyncio.CancelledError):
                await self._rebuilding
        await self.scheduler.close()
        await self._close_engine()

    async def _key_of(self, image: bytes) -> bytes:
        if len(image) <= HASHED_ON_LOOP_BYTES:
            return self.cache.key_of(image)
        return await asyncio.to_thread(self.cache.key_of, image)

    def _engine_failed(self, error: BaseException) -> None:
        self._metrics.engine_failures.inc()
        log.error("engine failed", error=type(error).__name__, exc_info=error)
        self._rebuilding = asyncio.get_running_loop().create_task(self._rebuild())

    async def _rebuild(self) -> None:
        self.engine_failed = True
        self._lifecycle.enter(Phase.FAILED)
        await self.scheduler.idle()
        await self._close_engine()
        for attempt in range(1, REBUILD_TRIES + 1):
            try:
                engine = await asyncio.to_thread(self._start_tested_engine)
            except Exception as error:
                log.error("engine not rebuilt", attempt=attempt, error=type(error).__name__)
                await asyncio.sleep(REBUILD_PAUSE_S * attempt)
            else:
                log.info("engine rebuilt", attempt=attempt)
                self.engine, self.engine_failed = engine, False
                self.scheduler.resume(engine)
                self._lifecycle.enter(Phase.SERVING)
                return
        log.error("engine given up")
        self._lifecycle.given_up.set()
        await self.scheduler.close()  # fails the requests that wait

    def _start_tested_engine(self) -> Engine:
        engine = start_engine(self._bundle, self._settings)
        side_px = self.manifest.input_side_px
        if not np.isfinite(engine.evidence(np.zeros((1, 1, side_px, side_px), np.float32))).all():
            raise ArithmeticError("the engine's evidence is not finite")
        return engine

    async def _close_engine(self) -> None:
        with suppress(Exception):  # a broken or closed engine may fail to close
            await asyncio.to_thread(self.engine.close)


def read_bundle(settings: Settings) -> Bundle:
    """Load and check the bundle. Raises BundleError."""
    home = Path(settings.bundle_home) if settings.bundle_home else None
    bundle = load_bundle(resolve(settings.model, home))
    name, wanted = bundle.manifest.name, bundle.manifest.preprocessing_id
    if wanted not in PREPROCESSINGS:
        raise BundleError(
            f"bundle {name} needs the preprocessing {wanted}, which this server does not "
            f"implement; it implements {', '.join(PREPROCESSINGS)}"
        )
    return bundle


def start_engine(bundle: Bundle, settings: Settings) -> Engine:
    """Start the engine that the settings ask for. Raises BundleError and EngineUnavailable."""
    return choose_engine(
        bundle,
        engine=settings.engine,
        device=settings.device or None,
        cache_dir=Path(settings.cache_dir) if settings.cache_dir else cache_home(),
        threads=settings.engine_threads or None,
    )


def warm_up_image() -> bytes:
    """Return a PNG of a grey ramp, 256 x 256."""
    file = BytesIO()
    Image.fromarray(np.tile(np.arange(256, dtype=np.uint8), (256, 1))).save(file, "PNG")
    return file.getvalue()
