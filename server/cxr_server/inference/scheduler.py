"""Schedule: requests -> turns at decode and engine -> own results. Next: score.

Work-conserving: an idle engine runs at once, a busy one takes what is ready when it
finishes, up to its batch, and nothing ever waits for company. A batch that is full already
waits at the engine's door, so that the engine does not wait for a turn of the event loop.
Callers take turns. Expired and cancelled requests leave before they cost anything.
Batch-mates cannot hurt each other: an image that fails to decode fails alone, and after an
engine failure every image of the batch is tried once more, alone.

Everything here runs on one event loop, but `_decode` and `_infer`: those run in threads, and tell
the loop what came of it.
"""

import asyncio
import time
from collections import deque
from collections.abc import Callable
from itertools import islice
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cxr_server.errors import Draining, ModelLoading, QueueFull, RequestError
from cxr_server.inference.engines import Engine
from cxr_server.inference.fair_queue import FairQueue
from cxr_server.inference.threads import as_exception, started
from cxr_server.inference.ticket import P, Ticket, Turn

TRIES = 2
"""How often an image may be in an engine call that fails."""


class EngineFailure(Exception):
    """The engine failed twice on this image; its first error is the cause."""


_NO_EVIDENCE = np.empty((0, 0, 0, 0), np.float32)
_LOOK_S = 0.01
"""How often it is looked whether threads have ended their work."""


class Scheduler:
    """Gives decode and engine to requests in fair turns. To be made on the event loop it serves.

    Args:
        engine: Where images go, `max_batch` at a time and `max_in_flight` calls at once.
        decode_slots: Most images decoded at once.
        max_waiting: Most requests that wait for their first turn.
        on_failure: Called, on the loop, with the error when the engine has failed. The
            scheduler then pauses until `resume`.
    """

    def __init__(
        self,
        engine: Engine,
        *,
        decode_slots: int,
        max_waiting: int = 1024,
        on_failure: Callable[[Exception], None] | None = None,
    ) -> None:
        self._engine: Engine | None = engine
        self._max_batch, self._max_in_flight = engine.max_batch, engine.max_in_flight
        self._decode_slots = decode_slots
        self._max_waiting = max_waiting
        self._on_failure = on_failure
        self._waiting: FairQueue[Ticket[Any]] = FairQueue()
        self._ready: deque[Ticket[Any]] = deque()
        self._decoding = 0
        self._calls = 0  # engine calls that run, or wait at the door
        self._broken: Engine | None = None
        self._closed = False
        self._loop = asyncio.get_running_loop()
        self._decoders = started(decode_slots, "decode")
        self._lanes = started(self._max_in_flight, "engine")
        self._turn_s = 0.1
        self.batches = 0
        self.images = 0

    @property
    def queue_depth(self) -> int:
        """Requests that wait for a turn at decode or engine."""
        return len(self._waiting) + len(self._ready) + self._at_door

    @property
    def busy(self) -> int:
        """Images being decoded plus engine calls running."""
        return self._decoding + min(self._calls, self._max_in_flight)

    def retry_after_ms(self) -> int:
        """When a refused call is worth repeating: the time to work off half the queue."""
        return int(1000 * min(max(self._turn_s * (1 + len(self._waiting) / 2), 0.05), 5.0))

    async def submit(
        self, prepare: Callable[[], P], *, caller: str = "", deadline: float = float("inf")
    ) -> Turn[P]:
        """Decode and infer one image, in its turn.

        Args:
            prepare: Runs in a thread; its errors are this request's alone.
            caller: Whose turn it is; callers share the server evenly.
            deadline: On the clock of `time.monotonic`.

        Raises:
            QueueFull: `max_waiting` requests wait already.
            DeadlineExpired: The deadline passed before a turn came.
            EngineFailure: The engine failed on this image alone, twice.
            Draining: The scheduler was closed first.
            ModelLoading: The engine has failed, and there is no `on_failure` to rebuild it.
            Exception: Whatever `prepare` raised.
        """
        if refusal := self._refusal():
            raise refusal
        if len(self._waiting) >= self._max_waiting:
            raise QueueFull("too many calls are waiting", retry_after_ms=self.retry_after_ms())
        ticket = Ticket(prepare, caller, deadline, self._loop.create_future())
        self._waiting.push(caller, ticket)
        self._pump()
        try:
            return await ticket.answer
        finally:  # a caller that went away frees its place at once
            if not self._waiting.discard(caller, ticket) and ticket in self._ready:
                self._ready.remove(ticket)
                self._pump()

    def pause(self) -> None:
        """Start nothing more on the engine until `resume`."""
        self._engine = None

    def resume(self, engine: Engine) -> None:
        """Go on with this engine, of the same limits, with everything that waits."""
        self._engine, self._broken = engine, None
        self._pump()

    async def idle(self) -> None:
        """Wait until no engine call is running."""
        while self._calls:
            await asyncio.sleep(_LOOK_S)

    def fail_all(self, error: RequestError) -> None:
        """Answer everything that waits with an error."""
        while self._waiting:
            self._waiting.pop().refuse(error)
        while self._ready:
            self._ready.popleft().refuse(error)

    async def close(self) -> None:
        """Refuse what waits, wait for what runs, end the threads. Does not close the engine."""
        self._closed = True
        self.fail_all(Draining("the server is shutting down"))
        while self._decoding or self._calls:
            await asyncio.sleep(_LOOK_S)
        self._decoders.shutdown()
        self._lanes.shutdown()

    @property
    def _at_door(self) -> int:
        """Requests given to the engine's threads, of which all are busy."""
        return max(0, self._calls - self._max_in_flight) * self._max_batch

    def _pump(self) -> None:
        """Start everything that can start now: engine first, so that work is finished."""
        while (engine := self._engine) and self._ready and self._calls < self._most_calls():
            if batch := self._next_batch():
                self._calls += 1
                self._lanes.submit(self._infer, engine, batch)
        # Decode no further ahead than one round of the engine: the rest waits as bytes,
        # where dropping it costs nothing and callers still take turns.
        ahead = max(self._decode_slots, self._max_batch * self._max_in_flight)
        while (
            self._waiting
            and self._decoding < self._decode_slots
            and self._decoding + len(self._ready) + self._at_door < ahead
        ):
            ticket = self._waiting.pop()
            if not ticket.gone():
                self._decoding += 1
                self._decoders.submit(self._decode, ticket)

    def _most_calls(self) -> int:
        """As many as the engine takes, and one more where the batch would not grow by waiting."""
        if self._calls != self._max_in_flight:
            return self._max_in_flight
        self._ready = deque(ticket for ticket in self._ready if not ticket.gone())
        next_batch = list(islice(self._ready, self._max_batch))
        full = len(next_batch) == self._max_batch
        suspect = any(ticket.failures for ticket in next_batch)  # it will be alone
        return self._max_in_flight + (full and not suspect)

    def _decode(self, ticket: Ticket[Any]) -> None:
        started = time.monotonic()
        try:
            ticket.prepared = ticket.prepare()
        except BaseException as error:
            self._tell(self._decoded, ticket, time.monotonic() - started, as_exception(error))
        else:
            self._tell(self._decoded, ticket, time.monotonic() - started, None)

    def _decoded(self, ticket: Ticket[Any], decode_s: float, error: Exception | None) -> None:
        self._decoding -= 1
        ticket.decode_s = decode_s
        refusal = self._refusal() if error is None else error
        if refusal is not None:
            ticket.refuse(refusal)
        if not ticket.gone():
            self._ready.append(ticket)
        self._pump()

    def _next_batch(self) -> list[Ticket[Any]]:
        batch: list[Ticket[Any]] = []
        while self._ready and len(batch) < self._max_batch:
            ticket = self._ready[0]
            if ticket.failures and batch and not ticket.gone():
                break
            self._ready.popleft()
            if ticket.gone():
                continue
            batch.append(ticket)
            if ticket.failures:  # suspect: alone
                break
        return batch

    def _infer(self, engine: Engine, batch: list[Ticket[Any]]) -> None:
        """Call the engine, unless it is out of use by now, for those who still wait."""
        began = time.monotonic()
        try:
            out_of_use = self._engine is not engine or self._broken is engine or self._closed
            wanted = [] if out_of_use else [ticket for ticket in batch if ticket.waits(began)]
            images = [ticket.prepared.image_chw for ticket in wanted if ticket.prepared]
            evidence = _NO_EVIDENCE
            if len(images) == 1:  # a copy would let others have the interpreter's lock meanwhile
                evidence = engine.evidence(images[0][None])
            elif images:
                evidence = engine.evidence(np.stack(images))
            if len(evidence) != len(wanted):
                raise ValueError(f"evidence of {len(evidence)} images for {len(wanted)}")
        except BaseException as error:
            self._broken = engine  # at once: what is at the door comes before the loop knows
            self._tell(self._failed, engine, batch, as_exception(error))
        else:
            self._tell(self._inferred, batch, wanted, evidence, began, time.monotonic())

    def _inferred(
        self,
        batch: list[Ticket[Any]],
        ran: list[Ticket[Any]],
        evidence: NDArray[np.float32],
        began: float,
        ended: float,
    ) -> None:
        self._calls -= 1
        if ran:
            self.batches += 1
            self.images += len(ran)
            self._turn_s += 0.1 * ((ended - began) / len(ran) / self._max_in_flight - self._turn_s)
        self._put_back([ticket for ticket in batch if ticket not in ran])
        for ticket, evidence_khw in zip(ran, evidence, strict=True):
            ticket.give(evidence_khw, began, ended)

    def _tell(self, step: Callable[..., None], *what: Any) -> None:
        """Let the loop take the next step."""
        self._loop.call_soon_threadsafe(step, *what)

    def _put_back(self, batch: list[Ticket[Any]]) -> None:
        """Let what did not run wait again, before all others, and go on."""
        for ticket in reversed(batch):
            if refusal := self._refusal():
                ticket.refuse(refusal)
            if not ticket.gone():
                self._ready.appendleft(ticket)
        self._pump()

    def _refusal(self) -> RequestError | None:
        """Why nothing will be answered any more, if so."""
        if self._closed:
            return Draining("the server is shutting down")
        if self._engine is None and self._on_failure is None:
            return ModelLoading("the engine has failed", retry_after_ms=1000)
        return None

    def _failed(self, engine: Engine, batch: list[Ticket[Any]], error: Exception) -> None:
        self._calls -= 1
        first = self._engine is engine
        if first:
            self.pause()
        for ticket in batch:
            ticket.failures += 1
            if ticket.failures >= TRIES:
                failure = EngineFailure("the engine failed on this image")
                failure.__cause__ = error
                ticket.refuse(failure)
        self._put_back(batch)
        if refusal := self._refusal():
            self.fail_all(refusal)
        elif first and self._on_failure:
            self._on_failure(error)
