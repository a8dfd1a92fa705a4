"""App: assemble the server, listen, load the model, serve, and shut down in order."""

import asyncio
import os
import signal
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace

import structlog

from cxr_server import __version__
from cxr_server.admission import Admission
from cxr_server.audit import FLUSH_S, open_audit
from cxr_server.drawing import most_drawn_px
from cxr_server.idle import give_back_memory
from cxr_server.inference import threads
from cxr_server.inference.engines.cores import usable_cores
from cxr_server.lifecycle import Lifecycle, Phase, exit_by_signal
from cxr_server.memory import decoding
from cxr_server.observability import logs, tracing
from cxr_server.observability.endpoint import State, expose
from cxr_server.observability.event_loop import LoopWatch
from cxr_server.observability.metrics import Metrics
from cxr_server.observability.tracing import Recorder
from cxr_server.readings import Readings, begin_at_zero
from cxr_server.rpc.server import Server
from cxr_server.service import InferenceService
from cxr_server.settings import MIB, Address, Settings

STOP_METRICS_S = 5.0
log = structlog.get_logger("cxr_server")


class App:
    """One server: `start`, then `load`, then `drain`. Raises SettingsError for the audit file.

    If another host listens, such as Ray Serve, call `expose_metrics` instead of `start`.
    """

    def __init__(self, settings: Settings, tracing: Recorder | None = None) -> None:
        self.settings = settings
        self.tracing = tracing
        self.port = self.metrics_port = 0  # known once the app listens
        self.lifecycle = Lifecycle()
        self.metrics = Metrics()
        self.audit = open_audit(settings)
        self.service = InferenceService(
            settings,
            self.lifecycle,
            self.metrics,
            in_flight=lambda: self.admission.calls,
            image_key=self.audit.key if self.audit else b"",
        )
        self.admission = Admission(
            most_calls=lambda: self.service.models.max_calls,
            max_bytes=self.service.memory.requests_bytes,
            max_request_bytes=self.service.memory.max_request_bytes,
            retry_after_ms=self.service.retry_after_ms,
            interactive=self.service.interactive,
        )
        self.server = Server(
            settings,
            self.service,
            self.lifecycle,
            self.admission,
            self.metrics,
            self.audit,
            tracing,
        )
        self._loop_watch = LoopWatch(self.metrics.loop_lag.observe)
        self._stop_metrics: Callable[[], None] | None = None
        self._giving_back: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Listen, reporting NOT_SERVING. Raises OSError."""
        self.expose_metrics()
        self.port = await self.server.start()

    def expose_metrics(self) -> None:
        """Listen for Prometheus and probes, if the settings name an address. Raises OSError."""
        if address := self.settings.metrics_listen:
            begin_at_zero(self.metrics, self.settings)
            registry, where = self.metrics.registry, Address.parse(address)
            registry.register(Readings(self.lifecycle, self.admission, self.service, self.server))
            self._loop_watch.start()
            alive, ready = self._alive, self._ready
            self.metrics_port, self._stop_metrics = expose(
                where.host, where.port, registry, alive=alive, ready=ready
            )

    async def load(self) -> None:
        """Load the models and enter SERVING. Raises BundleError, EngineUnavailable."""
        await self.service.load()
        if self.settings.metrics_listen:
            begin_at_zero(self.metrics, self.settings, dict(self.service.models))
        self._giving_back = asyncio.create_task(
            give_back_memory(self.admission, self.service.models.settle)
        )

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
        await self.close(max(until - time.monotonic(), 0.0))
        log.info("stopped")

    async def close(self, grace_s: float = 0.0) -> None:
        """Close the ports, end calls that are still in flight after `grace_s`, and release."""
        if self._giving_back:
            self._giving_back.cancel()
        await self.server.stop(grace_s)
        await self.service.close()
        self._loop_watch.stop()
        if self.audit:
            with suppress(TimeoutError):  # the disk does not respond
                async with asyncio.timeout(FLUSH_S):
                    await threads.run("audit", self.audit.flush)
        if self.tracing:
            await threads.run("tracing", self.tracing.stop)
        if self._stop_metrics:
            with suppress(TimeoutError):
                async with asyncio.timeout(STOP_METRICS_S):
                    await threads.run("metrics", self._stop_metrics)

    def _alive(self) -> State:
        """Return whether the process should go on."""
        if self._loop_watch.is_stuck:
            return State(False, "the event loop does not run")
        return State(not self.lifecycle.given_up.is_set(), self.lifecycle.phase)

    def _ready(self) -> State:
        """Return whether new calls should come here."""
        is_alive, text = self._alive()
        return State(is_alive and self.lifecycle.phase is Phase.SERVING, text)


async def serve(settings: Settings) -> int:
    """Serve until SIGTERM or SIGINT; SIGHUP reloads tokens and certificates.

    A signal before the model is loaded, or a second one, ends the process at once.

    Returns:
        The exit status: 0 after a clean drain, 1 after the model could not be restored.

    Raises:
        OSError: An address cannot be listened on.
        OperatorError: The model cannot be loaded.
    """
    app = App(settings, tracing.start(os.environ))
    leave = asyncio.Event()
    loop = asyncio.get_running_loop()

    def stop(number: int) -> None:
        # Loading cannot be interrupted, and nothing is being answered meanwhile.
        if leave.is_set() or app.lifecycle.phase is Phase.LOADING:
            app.server.tell_ended()
            exit_by_signal(number)
        log.info("signal received", signal=signal.Signals(number).name)
        leave.set()

    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop, number)
    await app.start()
    loop.add_signal_handler(signal.SIGHUP, threads.start, "reload", app.server.reload)
    try:
        await app.load()
    except BaseException:
        await app.close()
        raise
    _announce(app)
    ends = [asyncio.create_task(event.wait()) for event in (leave, app.lifecycle.given_up)]
    await asyncio.wait(ends, return_when=asyncio.FIRST_COMPLETED)
    for end in ends:
        end.cancel()
    await app.drain()
    return 1 if app.lifecycle.given_up.is_set() else 0


def _announce(app: App) -> None:
    """Say on stdout and in the log what is served, where and within which limits."""
    settings, memory, models = app.settings, app.service.memory, dict(app.service.models)
    model = next(iter(models.values()))
    manifest, engine = model.manifest, model.engine
    address = str(replace(Address.parse(settings.listen), port=app.port))
    tls = "mutual" if settings.tls_client_ca else "on" if settings.tls_cert else "off"
    facts = {
        "address": address,
        "version": __version__,
        "model": manifest.name,
        "model_version": manifest.version,
        "served_as": list(models),
        "engine": engine.name,
        "device": engine.device,
        "precision": engine.precision,
        "tls": tls,
        "tokens": bool(settings.tokens_file),
        "audit": bool(settings.audit_file),
        "max_in_flight": app.admission.max_calls,
        "memory_budget_mib": memory.budget_bytes // MIB,
        "max_in_flight_mib": memory.requests_bytes // MIB,
        "max_request_mib": memory.max_request_bytes // MIB,
        "max_pixels": memory.max_pixel_count,
        "max_drawn_pixels": most_drawn_px(model),
        "decoding": decoding(memory),
        "engine_threads": settings.engine_threads or usable_cores(),
        "tracing": app.tracing is not None,
        "loaded_s": round(app.lifecycle.uptime_s, 1),
    }
    text = f"serving {', '.join(models)} on {address} ({engine.name}, {engine.device})"
    logs.announce(text, event="serving", **facts)
    log.info("serving", **facts)
