"""Supervisor: starts and verifies the engine, watches it, and replaces it after a failure."""

import asyncio
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from typing import Any

import structlog

from cxr_server.bundles.load import Bundle
from cxr_server.errors import ModelLoading
from cxr_server.inference import threads
from cxr_server.inference.engine_calls import NotFinite
from cxr_server.inference.engines import FLOAT32, INT8, DeviceLost, Engine
from cxr_server.inference.engines.registry import choose_engine, first_line
from cxr_server.inference.scheduler import RETRY_AFTER_MS, Scheduler
from cxr_server.inference.verify import verify_engine
from cxr_server.lifecycle import Lifecycle, Phase

REBUILD_TRIES = 3
REBUILD_PAUSE_S = 0.5
REBUILD_LIMIT_S = 600.0  # for all tries together
WATCH_INTERVAL_S = 1.0
STUCK_CHECKS = 5
CLOSE_TIMEOUT_S = 5.0  # longer than a batch takes

log = structlog.get_logger("cxr_server")


class EngineSupervisor:
    """Owns the engine that a scheduler uses. Create it on the event loop.

    A failed engine is replaced by one of the same kind, while requests wait for it. If that fails
    `REBUILD_TRIES` times, if the device is lost, or if an engine call does not return, all requests
    fail and `Lifecycle.given_up` is set: only another process may be able to use the device.

    `failures` counts calls of the engine that failed, and losses of its device; `rebuilds` counts
    tries to replace it, by their outcome.
    """

    def __init__(
        self,
        engine: Engine,
        bundle: Bundle,
        start_engine: Callable[[], Engine],
        scheduler: Scheduler,
        lifecycle: Lifecycle,
        precision: str = FLOAT32,
    ) -> None:
        self.engine = engine
        self.lost = False  # failed, and not replaced yet
        self.failures = 0
        self.rebuilds = {"rebuilt": 0, "failed": 0}
        self._bundle = bundle
        self._precision = precision  # that was asked for
        self._start_engine = start_engine
        self._scheduler = scheduler
        self._lifecycle = lifecycle
        self._watching = asyncio.get_running_loop().create_task(self._watch())
        self._recovering: asyncio.Task[None] | None = None

    def failed(self, error: BaseException) -> None:
        """Replace the engine after an error of one of its calls, or give it up."""
        self.failures += 1
        model, name = self._bundle.manifest.name, type(error).__name__
        log.error("engine failed", model=model, error=name, exc_info=error)
        if isinstance(error, DeviceLost):
            self._give_up()
        else:
            self._recovering = asyncio.get_running_loop().create_task(self._recover(error))

    async def close(self) -> None:
        """Close the scheduler and the engine, unless that was given up.

        What still runs after `CLOSE_TIMEOUT_S` is left behind.
        """
        await _cancelled(self._recovering)
        await _cancelled(self._watching)
        self._lifecycle.engine_restored(self)  # other models do not wait for it
        with suppress(TimeoutError):
            async with asyncio.timeout(CLOSE_TIMEOUT_S):
                await self._scheduler.close()
                if not (self._lifecycle.given_up.is_set() or self._scheduler.stuck):
                    await self._close_engine()

    async def _watch(self) -> None:
        seen = 0  # consecutive checks: after a pause of the whole process, every call seems stuck
        while seen < STUCK_CHECKS:
            await asyncio.sleep(WATCH_INTERVAL_S)
            seen = seen + 1 if self._scheduler.stuck else 0
        log.error("engine call does not return")
        self._give_up()

    async def _recover(self, error: BaseException) -> None:
        try:
            async with asyncio.timeout(REBUILD_LIMIT_S):
                if isinstance(error, NotFinite) and await self._computes_right():
                    self._scheduler.resume(self.engine)  # the image was the cause
                else:
                    await self._rebuild()
        except TimeoutError:
            log.error("engine not rebuilt in time")
            self._give_up()

    async def _computes_right(self) -> bool:
        try:
            verify = partial(verify_engine, self.engine, self._bundle, self._precision)
            await threads.run("verifying", verify)
        except Exception as error:
            log.error("engine does not compute right", reason=first_line(error))
            return False
        return True

    async def _rebuild(self) -> None:
        self.lost = True
        self._lifecycle.engine_failed(self)
        await self._scheduler.idle()
        await self._close_engine()
        for attempt in range(1, REBUILD_TRIES + 1):
            try:
                engine = await threads.run(
                    "rebuilding", self._start_engine, abandoned=lambda late: late.close()
                )
            except Exception as error:
                name, reason = type(error).__name__, first_line(error)
                self.rebuilds["failed"] += 1
                log.error("engine not rebuilt", attempt=attempt, error=name, reason=reason)
                if attempt < REBUILD_TRIES:
                    await asyncio.sleep(REBUILD_PAUSE_S * attempt)
            else:
                self.rebuilds["rebuilt"] += 1
                log.info("engine rebuilt", attempt=attempt)
                self.engine, self.lost = engine, False
                self._scheduler.resume(engine)
                self._lifecycle.engine_restored(self)
                return
        self._give_up()

    def _give_up(self) -> None:
        if not self._lifecycle.given_up.is_set():
            log.error("engine given up")
            self.lost = True
            self._lifecycle.enter(Phase.FAILED)
            self._lifecycle.given_up.set()
            self._scheduler.give_up(engine_has_failed())

    async def _close_engine(self) -> None:
        with suppress(Exception):  # a broken or closed engine may fail to close
            await threads.run("closing", self.engine.close)


def start_verified(
    bundle: Bundle, name: str, *, precision: str = FLOAT32, **options: Any
) -> Engine:
    """Start an engine that computes what its bundle states.

    The options are those of `choose_engine`. Raises BundleError and EngineUnavailable.
    """
    engine = choose_engine(bundle, name, precision=precision, **options)
    try:
        difference = verify_engine(engine, bundle, precision)
    except BaseException:
        engine.close()
        raise
    if engine.precision == INT8 and engine.device == "CPU":
        from cxr_server.inference.engines.cpu import int8_doubt

        if doubt := int8_doubt():
            log.warning("int8 may be no faster", reason=doubt)
    facts = {"engine": engine.name, "device": engine.device, "precision": engine.precision}
    if difference is None:
        log.warning("engine started; the bundle has no probe to verify it with", **facts)
    else:
        log.info("engine started", **facts, largest_difference=difference)
    return engine


def engine_has_failed() -> ModelLoading:
    """Return the refusal of calls that a failed engine cannot answer."""
    return ModelLoading("the engine has failed", retry_after_ms=RETRY_AFTER_MS)


async def _cancelled(task: asyncio.Task[None] | None) -> None:
    """Cancel a task and wait for its end."""
    if task:
        task.cancel()
        await asyncio.wait({task})
