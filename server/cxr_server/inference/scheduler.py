"""Scheduler: requests -> decode threads -> engine threads -> results. Next: scoring.

Threads pull: each takes its next work itself, under one lock, so that an idle engine never waits
for the event loop, which only submits, cancels and receives. An idle engine runs at once, a busy
one takes what is ready when it finishes, up to its batch; there is no batching delay. Callers
take turns; bulk calls have theirs while no interactive call is in flight, see `bulk_turns`, and
batches of their own. Expired and cancelled requests cost no decoding and no inference. One image
cannot harm its batch: decoding fails alone, and after an engine failure every image is tried once
more, alone. Evidence that is not finite is such a failure.
"""

import asyncio
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from typing import TypeVar

from cxr_server.errors import Draining, ModelLoading, RequestError
from cxr_server.inference import threads
from cxr_server.inference.bulk_turns import BulkTurns
from cxr_server.inference.decode_queue import DecodeQueue
from cxr_server.inference.decode_threads import DecodeThreads
from cxr_server.inference.engine_calls import EngineCall, EngineCalls
from cxr_server.inference.engines import (
    DeviceLost,
    Engine,
    Interrupted,
    InterruptibleEngine,
    Output,
)
from cxr_server.inference.pending import Decoded, PendingRequest, complete, complete_all
from cxr_server.inference.ready_queue import ReadyQueue
from cxr_server.interactive_calls import InteractiveCalls
from cxr_server.observability.stages import Facts, Stage, Stages

P = TypeVar("P")
R = TypeVar("R")
_POLL_INTERVAL_S = 0.01
RETRY_AFTER_MS = 1000  # for calls that another server, or this one later, may answer


class EngineFailure(Exception):
    """The engine failed twice on this image; the cause is its last error."""


class Scheduler:
    """Shares decode threads and the engine between callers. Create it on its event loop.

    The decode threads serve the schedulers of other models as well. It does not bound what waits:
    admission does. When the engine has failed, `on_failure` is called on the event loop with the
    error, and the scheduler pauses until `resume`; without `on_failure`, every request fails from
    then on.
    """

    def __init__(
        self,
        engine: Engine,
        *,
        decoders: DecodeThreads,
        interactive: InteractiveCalls,
        on_failure: Callable[[BaseException], None] | None = None,
    ) -> None:
        self.on_failure = on_failure
        self._engine: Engine | None = engine
        self._max_batch = engine.max_batch
        self._ready = ReadyQueue()
        self._closed = False
        self._lock = decoders.lock  # guards all of the above, and the following
        self._decoders = decoders
        self._to_decode = DecodeQueue(
            decoders.changed,
            self._ready,
            self._decoded,
            max_ahead=max(decoders.count, self._max_batch * engine.max_in_flight),  # one round
        )
        self._can_infer = threading.Condition(self._lock)
        self._bulk_inference = BulkTurns(interactive, self._can_infer, engine.max_in_flight)
        self._calls = EngineCalls(engine.max_in_flight, self._bulk_inference)
        self._interactive = interactive
        interactive.interrupts.add(self._interrupt)
        self._loop = asyncio.get_running_loop()
        decoders.serve(self._to_decode)
        try:
            self._threads = [
                threads.start("engine", self._run) for _ in range(engine.max_in_flight)
            ]
        except RuntimeError:  # a limit on threads: end those that have started
            self._end_threads()
            raise

    @property
    def queue_depth(self) -> int:
        """Number of requests that wait for a decode thread or the engine."""
        return self.waiting_to_decode + self.waiting_to_infer

    @property
    def busy(self) -> int:
        """Number of images being decoded plus engine calls running."""
        return self.decoding + len(self._calls)

    @property
    def waiting_to_decode(self) -> int:
        """Number of requests that wait for a decode thread."""
        return len(self._to_decode)

    @property
    def waiting_to_infer(self) -> int:
        """Number of images that wait for the engine."""
        return len(self._ready)

    @property
    def decoding(self) -> int:
        """Number of images that are being decoded."""
        return self._to_decode.decoding

    def engine_work(self) -> tuple[dict[int, int], float]:
        """Return the number of answered engine calls by their images, and the seconds of all."""
        with self._lock:
            return dict(self._calls.batches_by_size), self._calls.busy_s

    @property
    def stuck(self) -> bool:
        """Whether an engine call is running for so long that it may never return."""
        with self._lock:
            return self._calls.stuck

    def retry_after_ms(self) -> int:
        """Return when to repeat a refused call: the time to work off half the queue."""
        return int(1000 * min(max(self._calls.image_s * (1 + len(self._to_decode) / 2), 0.05), 5.0))

    async def submit(
        self,
        prepare: Callable[[], P],
        conclude: Callable[[P, Output], R] | None,
        *,
        stages: Stages,
        caller: str = "",
        deadline: float = float("inf"),
        bulk: bool = False,
    ) -> tuple[P, R | None]:
        """Run `prepare` in a thread, then the engine and `conclude`, in the caller's turn.

        Returns what `prepare` made, which holds the network's input as `image_chw`, and what
        `conclude` made of that and of the engine's output, in the engine's thread. Without
        `conclude`, the engine is not needed. The deadline is on the clock of `time.monotonic`.

        Raises DeadlineExpired, EngineFailure, Draining once closed, ModelLoading if the engine has
        failed and is not rebuilt, and whatever `prepare` and `conclude` raise.
        """
        answer: asyncio.Future[tuple[P, R | None]]
        answer = asyncio.get_running_loop().create_future()
        request = PendingRequest(prepare, conclude, deadline, stages, answer, bulk)
        with self._lock:
            if refusal := self._refusal():
                raise refusal
            self._to_decode.push(caller, request)
        try:
            return await answer
        except asyncio.CancelledError:  # frees the place, and the image, at once
            with self._lock:
                if not self._to_decode.discard(caller, request):
                    self._ready.discard(request)
                    self._to_decode.has_room()
            raise

    def resume(self, engine: Engine) -> None:
        """Continue on an engine of the same batch limits, with everything that waits."""
        with self._lock:
            self._engine = engine
            self._can_infer.notify_all()

    async def idle(self) -> None:
        """Wait until no engine call is running."""
        while self._calls:
            await asyncio.sleep(_POLL_INTERVAL_S)

    def give_up(self, error: RequestError) -> None:
        """Fail what waits, runs and comes. For an engine that may never return."""
        self._end_threads()
        self._fail_all(error)
        with self._lock:
            running = [request for call in self._calls for request in call.batch]
        for request in running:
            complete(request.answer, error)

    async def close(self) -> None:
        """Fail what waits, finish what runs, and end its threads. Does not close the engine.

        A stuck engine call is left alone: its thread ends with the process.
        """
        self._end_threads()
        self._fail_all(Draining("the server is shutting down", retry_after_ms=RETRY_AFTER_MS))
        while self._is_working and not self.stuck:
            await asyncio.sleep(_POLL_INTERVAL_S)

    def _run(self) -> None:
        while self._infer_next():  # its locals end with it: an idle thread holds no image
            pass

    def _decoded(self, request: PendingRequest, outcome: Decoded) -> Decoded:
        """Let the engine have an image. Return the outcome of a request that ends instead."""
        outcome = outcome or self._refusal() or request.refusal()
        if outcome is None:
            self._ready.push(request)
            self._can_infer.notify()
        return outcome

    def _may_infer(self) -> bool:
        """Return whether the engine may run on what is ready, or nothing comes any more."""
        if self._closed or not (self._engine and self._ready):
            return self._closed
        return bool(self._ready.interactive_count) or self._bulk_inference.may_begin()

    def _infer_next(self) -> bool:
        """Wait for images and run the engine on a batch. Returns False once closed."""
        with self._lock:
            self._bulk_inference.wait_for(self._may_infer, lambda: self._ready.has_bulk)
            if self._closed or self._engine is None:
                return False
            engine, batch = self._engine, self._next_batch()
            if not batch:
                return True
            call = self._calls.begin(batch, self.decoding + self.waiting_to_infer)
        try:
            evidence, embeddings = call.run(engine)
        except Interrupted:
            self._interrupted(call)
            return True
        except BaseException as error:
            self._failed(engine, call, error)
            return True
        end_s = time.monotonic()
        with self._lock:
            self._calls.answered(call, end_s)
        facts: Facts = {
            "batch_size": len(batch),
            "engine": engine.name,
            "device": engine.device,
        }
        answered: list[tuple[asyncio.Future[object], object]] = []
        for index, request in enumerate(batch):
            request.record(Stage.INFERENCE, call.start_s, end_s, facts)
            embedding_c = None if embeddings is None else embeddings[index]
            outcome = request.outcome(Output(evidence[index], embedding_c))
            answered.append((request.answer, outcome))
        self._on_loop(complete_all, answered)  # which wakes the loop once
        return True

    def _next_batch(self) -> list[PendingRequest]:
        """Take images for one engine call; bulk images go alone while they give way."""
        is_alone = self._bulk_inference.gives_way and not self._ready.interactive_count
        batch: list[PendingRequest] = []
        while request := self._ready.next_of(batch, 1 if is_alone else self._max_batch):
            self._to_decode.has_room()
            if refusal := request.refusal():
                request.complete_soon(refusal)
            else:
                batch.append(request)
        return batch

    def _interrupt(self) -> None:
        """Let running calls on bulk images give way to an interactive one."""
        with self._lock:
            engine, running = self._engine, any(call.gives_way for call in self._calls)
        if running and isinstance(engine, InterruptibleEngine):
            engine.interrupt()

    def _interrupted(self, call: EngineCall) -> None:
        """Queue the images of a call that gave way; they do so once."""
        with self._lock:
            self._calls.failed(call)
            refusal = self._refusal()
            for request in reversed(call.batch):
                request.gave_way = True
                if refusal:
                    request.complete_soon(refusal)
                elif not request.answer.done():
                    self._ready.push(request, first=True)

    def _failed(self, engine: Engine, call: EngineCall, error: BaseException) -> None:
        """Queue the images of a failed call once more, and pause unless already replaced."""
        given_up: Exception = EngineFailure("the engine failed on this image")
        given_up.__cause__ = error
        if isinstance(error, DeviceLost):  # not because of the image
            given_up = ModelLoading("the engine has failed", retry_after_ms=RETRY_AFTER_MS)
        with self._lock:
            self._calls.failed(call)
            first = self._engine is engine
            if first:
                self._engine = None
            refusal = self._refusal()
            for request in reversed(call.batch):
                if request.failed_once or refusal:
                    request.complete_soon(refusal or given_up)
                elif not request.answer.done():  # its caller still waits
                    request.failed_once = True
                    self._ready.push(request, first=True)
            self._can_infer.notify_all()
        if refusal:
            self._on_loop(self._fail_all, refusal)
        elif first and self.on_failure:
            self._on_loop(self.on_failure, error)

    def _refusal(self) -> RequestError | None:
        """Return why no request will be answered any more, if so."""
        if self._closed:
            return Draining("the server is shutting down", retry_after_ms=RETRY_AFTER_MS)
        if self._engine is None and self.on_failure is None:
            return ModelLoading("the engine has failed", retry_after_ms=RETRY_AFTER_MS)
        return None

    def _fail_all(self, error: RequestError) -> None:
        with self._lock:
            waiting = self._to_decode.clear() + self._ready.clear()
        for request in waiting:
            complete(request.answer, error)

    def _on_loop(self, callback: Callable[..., object], *arguments: object) -> None:
        with suppress(RuntimeError):  # the loop is closed: nobody waits
            self._loop.call_soon_threadsafe(callback, *arguments)

    @property
    def _is_working(self) -> bool:
        return self.decoding > 0 or any(thread.is_alive() for thread in self._threads)

    def _end_threads(self) -> None:
        self._interactive.interrupts.discard(self._interrupt)
        self._decoders.leave(self._to_decode)
        with self._lock:
            self._closed = True
            self._can_infer.notify_all()
