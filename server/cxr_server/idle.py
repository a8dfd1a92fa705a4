"""Idle: gives freed memory back to the system while nobody calls."""

import asyncio
from collections.abc import Callable
from contextlib import suppress

from cxr_server.admission import Admission
from cxr_server.inference import allocator, threads

IDLE_S = 5.0
"""Interval between checks; memory is given back if no call came in between."""


async def give_back_memory(
    admission: Admission, settle: Callable[[], None], idle_s: float = IDLE_S
) -> None:
    """Give memory back at the first pause after calls, then `settle`. Runs until it is cancelled.

    Freed memory is kept for the next image, which is faster, but callers who go away in the middle
    of large uploads leave hundreds of MiB of it between blocks that are still used.
    """
    seen, given_back_at = admission.asked, -1
    while True:
        await asyncio.sleep(idle_s)
        is_idle = not admission.calls and admission.asked == seen
        if is_idle and given_back_at != seen:
            with suppress(RuntimeError):  # no thread can be started: try again at the next pause
                await threads.run("give-back", allocator.give_back)
            given_back_at = seen
            if admission.asked == seen:  # else there is another pause
                settle()
        seen = admission.asked
