"""App: assemble, listen, load, warm up, serve; on a signal drain and leave."""

import asyncio
import os
import signal
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace

import structlog

from cxr_server.admission import Admission
from cxr_server.errors import ModelLoading, RequestError
from cxr_server.explanation.render import RenderOptions
from cxr_server.inference.engines.registry import EngineUnavailable
from cxr_server.inference.scheduler import EngineFailure
from cxr_server.lifecycle import Lifecycle, Phase
from cxr_server.model import (
    LoadedModel,
    assemble,
    make_engine,
    read_bundle,
    warm_up_image,
)
from cxr_server.observability.metrics import Metrics
from cxr_server.rpc.server import Server
from cxr_server.rpc.servicer import ChestXrayServicer
from cxr_server.settings import MIB, Settings, split_address

REBUILD_TRIES = 3
REBUILD_PAUSE_S = 0.5
log = structlog.get_logger("cxr_server")


class App:
    """One server: `start`, then `load`, then `drain`. `port` is known after `start`."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.lifecycle = Lifecycle()
        self.metrics = Metrics()
        self.admission = Admission(
            max_calls=settings.max_in_flight,
            max_bytes=settings.max_in_flight_mib * MIB,
            retry_after_ms=self._retry_after_ms,
        )
        self.servicer = ChestXrayServicer(settings, self.lifecycle, self.admission, self.metrics)
        self.server = Server(settings, self.servicer, self.lifecycle, self.admission, self.metrics)
        self._stop_metrics: Callable[[], None] | None = None
        self._rebuild: asyncio.Task[None] | None = None

    @property
    def port(self) -> int:
        """The service port, once the app has started."""
        return self.server.port

    async def start(self) -> None:
        """Listen, reporting NOT_SERVING. Raises OSError."""
        if address := self.settings.metrics_listen:
            admission = self.admission
            self.metrics.gauge("cxr_calls_held", "Calls admitted.", lambda: admission.calls)
            self.metrics.gauge(
                "cxr_request_bytes_held", "Request bytes held.", lambda: admission.held_bytes
            )
            self._stop_metrics = self.metrics.expose(*split_address(address))
        await self.server.start()

    async def load(self) -> LoadedModel:
        """Load the model, pass an image through all of it, and report SERVING.

        Raises:
            BundleError: The bundle is missing or not what it was.
            EngineUnavailable: The engine asked for is not there.
        """
        bundle = await asyncio.to_thread(read_bundle, self.settings)
        engine = await asyncio.to_thread(make_engine, bundle, self.settings)
        model = assemble(bundle, engine, self.settings, lambda e: self._engine_failed(model, e))
        try:
            await _warm_up(model)
        except (RequestError, EngineFailure) as error:
            raise EngineUnavailable("the engine failed while warming up") from error
        self.servicer.model = model
        self._report(model)
        self.lifecycle.enter(Phase.SERVING)
        return model

    def _report(self, model: LoadedModel) -> None:
        metrics, scheduler, cache = self.metrics, model.scheduler, model.pipeline.cache
        metrics.gauge("cxr_queue_depth", "Waiting requests.", lambda: scheduler.queue_depth)
        metrics.counter("cxr_engine_batches", "Batches inferred.", lambda: scheduler.batches)
        metrics.counter("cxr_engine_images", "Images inferred.", lambda: scheduler.images)
        metrics.gauge("cxr_evidence_cache_entries", "Cached images.", lambda: len(cache))
        metrics.counter("cxr_evidence_cache_hits", "Cache hits.", lambda: cache.hits)
        metrics.counter("cxr_evidence_cache_misses", "Cache misses.", lambda: cache.misses)

    async def drain(self) -> None:
        """Leave in order: say so, serve on for a while, refuse, finish, release."""
        settings = self.settings
        log.info("leaving", pause_s=settings.drain_pause_s, grace_s=settings.grace_s)
        if not self.lifecycle.given_up.is_set():
            self.lifecycle.enter(Phase.LAME_DUCK)
            await asyncio.sleep(settings.drain_pause_s)
        self.lifecycle.enter(Phase.DRAINING)
        # The gate refuses from here on, and says why. A server of grpc that is being stopped
        # would end calls that it has not looked at yet as CANCELLED: so stop it last.
        until = time.monotonic() + settings.grace_s
        while self.admission.calls and time.monotonic() < until:
            await asyncio.sleep(0.02)
        await self.server.stop(max(until - time.monotonic(), 0.0))
        if self._rebuild:
            self._rebuild.cancel()
            with suppress(asyncio.CancelledError):
                await self._rebuild
        if model := self.servicer.model:
            await model.scheduler.close()
            model.pipeline.close()
            await _close_engine(model)
        if self._stop_metrics:
            await asyncio.to_thread(self._stop_metrics)
        log.info("left")

    def _retry_after_ms(self) -> int:
        model = self.servicer.model
        return model.scheduler.retry_after_ms() if model else 500

    def _engine_failed(self, model: LoadedModel, error: Exception) -> None:
        self.metrics.engine_failures.inc()
        log.error("engine failed", error=type(error).__name__, exc_info=error)
        if self.servicer.model is None:  # while warming up: `load` reports it
            model.scheduler.fail_all(ModelLoading("the engine has failed"))
            return
        self._rebuild = asyncio.get_running_loop().create_task(self._rebuild_engine(model))

    async def _rebuild_engine(self, model: LoadedModel) -> None:
        """Replace the engine under the requests that wait; give up after some tries."""
        # By its like: another one takes other batches than the scheduler makes.
        alike = replace(self.settings, engine=model.engine.name, device=model.engine.device)
        self.lifecycle.enter(Phase.FAILED)
        await model.scheduler.idle()
        await _close_engine(model)
        for attempt in range(1, REBUILD_TRIES + 1):
            try:
                model.engine = await asyncio.to_thread(make_engine, model.bundle, alike)
                await asyncio.to_thread(_prove, model)
            except Exception as error:
                log.error("engine not rebuilt", attempt=attempt, error=type(error).__name__)
                await asyncio.sleep(REBUILD_PAUSE_S * attempt)
            else:
                log.info("engine rebuilt", attempt=attempt)
                model.pipeline.engine = model.engine
                model.scheduler.resume(model.engine)
                self.lifecycle.enter(Phase.SERVING)
                return
        log.error("engine given up")
        self.lifecycle.given_up.set()
        await model.scheduler.close()  # answers those that wait


async def serve(settings: Settings) -> int:
    """Serve until SIGTERM or SIGINT. Returns the exit status: 0 after a clean drain."""
    app = App(settings)
    leave = asyncio.Event()
    loop = asyncio.get_running_loop()

    def on_signal() -> None:
        if leave.is_set():
            os._exit(130)  # asked twice: at once
        leave.set()

    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, on_signal)
    await app.start()
    loading = asyncio.create_task(app.load())
    leaving = asyncio.create_task(leave.wait())
    failing = asyncio.create_task(app.lifecycle.given_up.wait())
    await asyncio.wait((loading, leaving, failing), return_when=asyncio.FIRST_COMPLETED)
    try:
        if loading.done():
            model = loading.result()
            host, _ = split_address(settings.listen)
            host = f"[{host}]" if ":" in host else host
            where = f"{model.engine.name}, {model.engine.device}"
            print(f"serving {model.manifest.name} on {host}:{app.port} ({where})", flush=True)
            log.info("serving", model=model.manifest.name, engine=model.engine.name, port=app.port)
            await asyncio.wait((leaving, failing), return_when=asyncio.FIRST_COMPLETED)
    finally:
        await asyncio.wait({loading})  # a thread that loads cannot be stopped half-way
        await app.drain()
        leaving.cancel()
        failing.cancel()
    return 1 if app.lifecycle.given_up.is_set() else 0


async def _warm_up(model: LoadedModel) -> None:
    """Pass an image through every step, Explain's too, leaving the cache as it was."""
    cache = model.pipeline.cache
    await model.pipeline.explain(warm_up_image(), options=RenderOptions(legend=True))
    cache.clear()


async def _close_engine(model: LoadedModel) -> None:
    """Release the engine; one that is broken, or closed already, may object in vain."""
    with suppress(Exception):
        await asyncio.to_thread(model.engine.close)


def _prove(model: LoadedModel) -> None:
    import numpy as np

    side_px = model.manifest.input_side_px
    evidence = model.engine.evidence(np.zeros((1, 1, side_px, side_px), np.float32))
    if not np.isfinite(evidence).all():
        raise ArithmeticError("the engine's answer is not finite")
