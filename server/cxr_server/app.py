"""App: assemble the server, listen, load the model, serve, and shut down in order."""

import asyncio
import os
import signal
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace

import structlog

from cxr_server.admission import Admission
from cxr_server.inference import threads
from cxr_server.lifecycle import Lifecycle, Phase
from cxr_server.model import ServingModel
from cxr_server.observability.metrics import Metrics
from cxr_server.rpc.server import Server
from cxr_server.service import InferenceService
from cxr_server.settings import Address, Settings

STOP_METRICS_S = 5.0
log = structlog.get_logger("cxr_server")


class App:
    """One server: `start`, then `load`, then `drain`."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.port = 0  # known once the app has started
        self.lifecycle = Lifecycle()
        self.metrics = Metrics()
        self.service = InferenceService(
            settings, self.lifecycle, self.metrics, in_flight=lambda: self.admission.calls
        )
        self.admission = Admission(
            max_calls=settings.max_in_flight,
            max_bytes=self.service.memory.requests_bytes,
            max_request_bytes=self.service.memory.max_request_bytes,
            retry_after_ms=self.service.retry_after_ms,
        )
        self.server = Server(settings, self.service, self.lifecycle, self.admission, self.metrics)
        self._stop_metrics: Callable[[], None] | None = None

    async def start(self) -> None:
        """Listen, reporting NOT_SERVING. Raises OSError."""
        if address := self.settings.metrics_listen:
            report, admission = self.metrics.report, self.admission
            report("cxr_calls_held", "Calls admitted.", lambda: admission.calls)
            report("cxr_request_bytes_held", "Request bytes held.", lambda: admission.held_bytes)
            where = Address.parse(address)
            self._stop_metrics = self.metrics.expose(where.host, where.port)
        self.port = await self.server.start()

    async def load(self) -> ServingModel:
        """Load the model, warm it up and enter SERVING. Raises BundleError, EngineUnavailable."""
        model = await self.service.load()
        report, scheduler, cache = self.metrics.report, model.scheduler, model.cache
        drawing = model.drawing_budget
        report("cxr_answer_bytes_held", "Bytes to draw and send.", lambda: drawing.held_bytes)
        report("cxr_queue_depth", "Requests that wait.", lambda: scheduler.queue_depth)
        report("cxr_engine_batches_total", "Batches inferred.", lambda: scheduler.batches)
        report("cxr_engine_images_total", "Images inferred.", lambda: scheduler.images)
        report("cxr_evidence_cache_entries", "Images cached.", lambda: len(cache))
        report("cxr_evidence_cache_hits_total", "Images found in the cache.", lambda: cache.hits)
        report("cxr_evidence_cache_misses_total", "Images not in it.", lambda: cache.misses)
        return model

    async def drain(self) -> None:
        """Shut down: lame duck, refuse new calls, finish those in flight, release."""
        settings = self.settings
        log.info("draining", pause_s=settings.drain_pause_s, grace_s=settings.grace_s)
        if not self.lifecycle.given_up.is_set():
            self.lifecycle.enter(Phase.LAME_DUCK)
            await asyncio.sleep(settings.drain_pause_s)
        self.lifecycle.enter(Phase.DRAINING)
        # New calls are refused from here on, with a reason. gRPC would end calls that it has
        # not started yet as CANCELLED, so it stops last.
        until = time.monotonic() + settings.grace_s
        while self.admission.calls and time.monotonic() < until:
            await asyncio.sleep(0.02)
        await self.server.stop(max(until - time.monotonic(), 0.0))
        await self.service.close()
        if self._stop_metrics:
            with suppress(TimeoutError):
                async with asyncio.timeout(STOP_METRICS_S):
                    await threads.run("metrics", self._stop_metrics)
        log.info("stopped")


async def serve(settings: Settings) -> int:
    """Serve until SIGTERM or SIGINT. Returns the exit status: 0 after a clean drain."""
    app = App(settings)
    leave = asyncio.Event()
    loop = asyncio.get_running_loop()

    def on_signal() -> None:
        if leave.is_set():
            os._exit(130)  # second signal: exit immediately
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
            address = replace(Address.parse(settings.listen), port=app.port)
            where = f"{model.engine.name}, {model.engine.device}"
            print(f"serving {model.manifest.name} on {address} ({where})", flush=True)
            log.info("serving", model=model.manifest.name, engine=model.engine.name, port=app.port)
            await asyncio.wait((leaving, failing), return_when=asyncio.FIRST_COMPLETED)
    finally:
        await asyncio.wait({loading})  # the loading thread cannot be interrupted
        await app.drain()
        leaving.cancel()
        failing.cancel()
    return 1 if app.lifecycle.given_up.is_set() else 0
