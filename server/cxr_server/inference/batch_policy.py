"""Batch policy: have the kernel interrupt computing threads less often."""

import os
from contextlib import suppress


def wait_for_turns() -> None:
    """Run this thread, and all threads and processes that it starts, under SCHED_BATCH; sched(7).

    Under the usual policy a thread that wakes up interrupts another that computes. With all cores
    busy, the network was interrupted 13 times an image, and found its caches displaced. Under this
    policy it is 7 times: a thread that wakes up takes a free core, or waits for its turn, some
    milliseconds. Shares of cores stay the same. A policy that the operator chose is kept.
    """
    with suppress(AttributeError, OSError):  # no Linux, or a sandbox that forbids it
        if os.sched_getscheduler(0) == os.SCHED_OTHER:
            os.sched_setscheduler(0, os.SCHED_BATCH, os.sched_param(0))
