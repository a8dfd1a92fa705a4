"""Model: bundle -> ServingModel, on an engine of its own, with resources that models share."""

import asyncio
import math
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from io import BytesIO
from pathlib import Path
from typing import TypeVar

from PIL import Image

from cxr_server.bundles.load import Bundle
from cxr_server.bundles.manifest import Manifest
from cxr_server.bundles.store import cache_home
from cxr_server.evidence import EvidenceSource
from cxr_server.inference import threads
from cxr_server.inference.engines import DeviceLost, Engine
from cxr_server.inference.preprocess import Preprocessing, preprocessing_of
from cxr_server.inference.scheduler import Scheduler
from cxr_server.inference.supervisor import EngineSupervisor, engine_has_failed, start_verified
from cxr_server.lifecycle import Lifecycle
from cxr_server.observability.call import Call
from cxr_server.observability.stages import Stage, Stages
from cxr_server.resources import Resources
from cxr_server.settings import Settings

R = TypeVar("R")


@dataclass(frozen=True, slots=True)
class ServedModel:
    """A model, and the precision that its engine computes in."""

    manifest: Manifest
    precision: str


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
        self.scheduler = Scheduler(
            engine, decoders=resources.decoders, interactive=resources.interactive
        )
        self.source = EvidenceSource(
            bundle, preprocessing, self.scheduler, resources, settings.cache_entries, image_key
        )
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
    def identity(self) -> ServedModel:
        """What answers tell of the model."""
        return ServedModel(self.manifest, self.engine.precision)

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

    def check_room(self, *, slow: bool, bulk: bool) -> None:
        """Raise QueueFull if `draw` would refuse, before work is spent on the image."""
        (self.resources.slow_maps if slow else self.resources.drawing).check(bulk=bulk)

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
        self.source.forget()
        self.scheduler.on_failure = self._supervisor.failed

    async def close(self) -> None:
        """Fail what waits, finish what runs but maps, and release the engine."""
        await self._supervisor.close()
