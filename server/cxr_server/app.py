"""App: assemble, listen, load, warm up, serve; on a signal drain and leave."""

import asyncio
import os
import signal
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from typing import Any

import grpc
import structlog
from grpc_health.v1 import health, health_pb2_grpc
from grpc_reflection.v1alpha import reflection

from cxr.v1 import chest_xray_pb2_grpc as pb_grpc
from cxr_server.admission import Admission
from cxr_server.errors import ModelLoading, RequestError
from cxr_server.explanation.render import RenderOptions
from cxr_server.inference.engines.registry import EngineUnavailable
from cxr_server.inference.scheduler import EngineFailure
from cxr_server.lifecycle import SERVICE, HealthServicer, Lifecycle, Phase
from cxr_server.model import (
    LoadedModel,
    assemble,
    make_engine,
    read_bundle,
    saliency_methods,
    warm_up_image,
)
from cxr_server.observability.metrics import Metrics
from cxr_server.rpc.access import Access, server_credentials
from cxr_server.rpc.interceptors import MODEL_METHODS, Gate
from cxr_server.rpc.servicer import MIB, ChestXrayServicer
from cxr_server.settings import Settings, split_address

REBUILD_TRIES = 3
REBUILD_PAUSE_S = 0.5
log = structlog.get_logger("cxr_server")


class App:
    """One server: `start`, then `load`, then `drain`. `port` is known after `start`."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.lifecycle = Lifecycle()
        self.metrics = Metrics()
        self.servicer = ChestXrayServicer(settings, self.lifecycle, self.metrics)
        self.admission = Admission(
            max_calls=settings.max_in_flight,
            max_bytes=settings.max_in_flight_mib * MIB,
            retry_after_ms=self._retry_after_ms,
        )
        self.failed = asyncio.Event()
        self.port = 0
        self.health_port = 0
        self._servers: list[grpc.aio.Server] = []
        self._stop_metrics: Callable[[], None] | None = None
        self._rebuild: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Listen, reporting NOT_SERVING. Raises SettingsError and OSError."""
        settings = self.settings
        self.lifecycle.enter(Phase.LOADING)
        gate = Gate(
            lifecycle=self.lifecycle,
            admission=self.admission,
            access=Access(settings.tokens_file),
            metrics=self.metrics,
            max_request_bytes=settings.max_request_mib * MIB,
            upload_timeout_s=settings.upload_timeout_s,
        )
        health_servicer = HealthServicer(self.lifecycle)
        server = grpc.aio.server(interceptors=[gate], options=_channel_options(settings))
        pb_grpc.add_ChestXrayServiceServicer_to_server(self.servicer, server)  # type: ignore[no-untyped-call]
        health_pb2_grpc.add_HealthServicer_to_server(health_servicer, server)
        if settings.reflection:
            names = (SERVICE, health.SERVICE_NAME, reflection.SERVICE_NAME)
            reflection.enable_server_reflection(names, server)
        credentials = server_credentials(settings)
        self.port = _bind(server, settings.listen, credentials)
        self._servers.append(server)
        if settings.health_listen:
            probes = grpc.aio.server(options=(("grpc.so_reuseport", 0),))
            health_pb2_grpc.add_HealthServicer_to_server(health_servicer, probes)
            self.health_port = _bind(probes, settings.health_listen, None)
            self._servers.append(probes)
        if settings.metrics_listen:
            self.metrics.watch(self._gauges)
            self._stop_metrics = self.metrics.expose(*split_address(settings.metrics_listen))
        for each in self._servers:
            await each.start()

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
        self.lifecycle.enter(Phase.SERVING)
        return model

    async def drain(self) -> None:
        """Leave in order: say so, serve on for a while, refuse, finish, release."""
        settings = self.settings
        log.info("leaving", pause_s=settings.drain_pause_s, grace_s=settings.grace_s)
        if not self.failed.is_set():
            self.lifecycle.enter(Phase.LEAVING)
            await asyncio.sleep(settings.drain_pause_s)
        self.lifecycle.enter(Phase.DRAINING)
        # The gate refuses from here on, and says why. A server of grpc that is being stopped
        # would end calls that it has not looked at yet as CANCELLED: so stop it last.
        until = time.monotonic() + settings.grace_s
        while self.metrics.active(*MODEL_METHODS) and time.monotonic() < until:
            await asyncio.sleep(0.02)
        left_s = max(until - time.monotonic(), 0.0)
        await asyncio.gather(*(server.stop(left_s) for server in self._servers))
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

    def _gauges(self) -> dict[str, float]:
        values = {
            "cxr_calls_held": float(self.admission.calls),
            "cxr_request_bytes_held": float(self.admission.held_bytes),
        }
        if model := self.servicer.model:
            values |= {
                "cxr_queue_depth": model.scheduler.queue_depth,
                "cxr_engine_batches_total": model.scheduler.batches,
                "cxr_engine_images_total": model.scheduler.images,
                "cxr_evidence_cache_entries": len(model.pipeline.cache),
                "cxr_evidence_cache_hits_total": model.pipeline.cache.hits,
                "cxr_evidence_cache_misses_total": model.pipeline.cache.misses,
            }
        return values

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
                model.pipeline.methods = saliency_methods(model.engine)
                model.scheduler.resume(model.engine)
                self.lifecycle.enter(Phase.SERVING)
                return
        log.error("engine given up")
        self.failed.set()
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
    failing = asyncio.create_task(app.failed.wait())
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
    return 1 if app.failed.is_set() else 0


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


def _bind(server: grpc.aio.Server, address: str, credentials: Any) -> int:
    try:
        return int(
            server.add_secure_port(address, credentials)
            if credentials
            else server.add_insecure_port(address)
        )
    except RuntimeError:  # grpc's; why, it has written on stderr itself
        raise OSError(f"cannot listen on {address}") from None


def _channel_options(settings: Settings) -> list[tuple[str, int]]:
    return [
        ("grpc.max_receive_message_length", settings.max_request_mib * MIB),
        ("grpc.max_send_message_length", -1),
        # Two servers on one port would share its connections without a word.
        ("grpc.so_reuseport", 0),
        # Clients that keep an idle connection alive are welcome, each 10 s.
        ("grpc.http2.min_ping_interval_without_data_ms", 10_000),
        ("grpc.keepalive_permit_without_calls", 1),
        # Connections end now and then, so that clients see new replicas and certificates.
        ("grpc.max_connection_age_ms", 30 * 60_000),
        ("grpc.max_connection_age_grace_ms", 60_000),
    ]
