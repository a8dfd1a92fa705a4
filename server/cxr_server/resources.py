"""Resources: limits, memory, threads and processes that all models of a server share."""

from collections.abc import Iterable

import structlog

from cxr_server.budget import ByteBudget, ThreadBudget
from cxr_server.imaging.radiograph import DecodeLimits
from cxr_server.inference import threads
from cxr_server.inference.decode_processes.pool import DecodeProcesses
from cxr_server.inference.decode_threads import DecodeThreads
from cxr_server.inference.engines import Engine
from cxr_server.inference.engines.cores import usable_cores
from cxr_server.inference.worker_pool import WorkerPool
from cxr_server.interactive_calls import InteractiveCalls
from cxr_server.memory import Memory, beyond_process_share
from cxr_server.observability.metrics import Metrics
from cxr_server.settings import MIB, Settings

MAX_IMAGES_AT_ONCE = 16
"""Images of one call that are worked on at once: enough for a batch of every engine."""
LEAST_CALLS = 64
"""Calls in flight that a server takes where no number is given and the engine needs no more."""
MAX_SLOW_EXPLANATIONS = 8
"""Calls that may run or wait for a method that needs the engine, half of them bulk calls."""
MIN_DRAWING_BYTES = 64 * MIB  # enough for a picture of 1024 pixels a side
log = structlog.get_logger("cxr_server")


class Resources:
    """Limits, budgets of memory, and the threads and processes that read, decode and draw.

    `side_px` is the largest input of a model; no process is started yet.
    """

    def __init__(
        self,
        settings: Settings,
        memory: Memory,
        side_px: int,
        metrics: Metrics,
        interactive: InteractiveCalls,
    ) -> None:
        self.side_px = side_px
        self.interactive = interactive
        self.limits = DecodeLimits(
            settings.min_side_px, settings.max_side_px, memory.max_pixel_count
        )
        self.decode_threads, self.in_processes = memory.decode_threads, memory.in_processes
        self.decoders = DecodeThreads(self.decode_threads, interactive)
        self.decode_budget = ThreadBudget(memory.decode_bytes)
        self.drawing_budget = ByteBudget(memory.drawing_bytes)
        self.processes = decode_processes(memory, side_px, metrics)
        self.files = WorkerPool("files", 1, LEAST_CALLS * MAX_IMAGES_AT_ONCE, interactive)
        drawing_threads = settings.decode_threads or usable_cores()
        self.drawing = WorkerPool("drawing", drawing_threads, LEAST_CALLS, interactive)
        self.slow_maps = WorkerPool("saliency", 1, MAX_SLOW_EXPLANATIONS, interactive)
        self._memory = memory

    def settle(self, to_cache_bytes: int, max_calls: int) -> None:
        """Take from drawing what warm models, with full caches, take beyond their share.

        `to_cache_bytes` is what the caches have room for beside what they hold.
        From then on, `max_calls` may wait for the threads that read files and draw, beside a model
        that is warmed up.
        """
        self.files.max_jobs = max_calls * MAX_IMAGES_AT_ONCE
        self.drawing.max_jobs = max_calls + 1
        beyond_bytes = beyond_process_share(to_cache_bytes, self._memory.process_bytes)
        most_bytes = self._memory.drawing_bytes
        self.drawing_budget.limit_bytes = max(MIN_DRAWING_BYTES, most_bytes - beyond_bytes)
        if beyond_bytes:
            left_mib = self.drawing_budget.limit_bytes // MIB
            log.warning("the models take memory meant for drawing", left_for_drawing_mib=left_mib)

    async def close(self) -> None:
        """End all threads and processes, without waiting for maps that are being made."""
        for pool in (self.files, self.drawing, self.slow_maps):
            pool.close()
        self.decoders.close()
        await threads.run("closing", self.processes.close)


def busy_calls(engines: Iterable[Engine], decode_threads: int) -> int:
    """Return how many calls in flight keep engines and decode threads busy.

    The engine that takes most images at once can run on one round of them while the next one is
    ready, and the threads decode that after it.
    """
    most_images = max(engine.max_batch * engine.max_in_flight for engine in engines)
    return max(LEAST_CALLS, 2 * most_images + decode_threads)


def decode_processes(memory: Memory, side_px: int, metrics: Metrics) -> DecodeProcesses:
    """Return the pool of decode processes; none of them has been started."""
    result_bytes = 5 * side_px**2 + memory.max_pixel_count  # input, picture, and the whole image
    arena_bytes = max(memory.max_request_bytes, result_bytes)
    return DecodeProcesses(memory.decode_processes, arena_bytes=arena_bytes, metrics=metrics)
