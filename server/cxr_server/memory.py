"""Memory: one budget in bytes -> the shares of requests, decoding and drawing, and their limits.

    budget = process and model + decode processes + requests + decoding + drawing and responses

Every call reserves the most that it may need, so that no share is ever exceeded. `divide` sets
every limit that is not given, and refuses settings that contradict each other or the budget.
"""

import re
from dataclasses import dataclass
from pathlib import Path

from cxr_server.admission import undeclared_bytes
from cxr_server.inference.decode_processes.sizes import FORK_SERVER_BYTES, process_bytes
from cxr_server.settings import MIB, Settings, SettingsError

PROCESS_BYTES = 448 * MIB
"""For the interpreter, its libraries, one model, and copies while a message is received."""
MODEL_BYTES = 160 * MIB
"""For each further model: its weights, compiled twice, and what a running inference takes. A second
and a third DenseNet-121 took 102 and 145 MiB."""
WORKING_BYTES = 96 * MIB  # part of these that a warm process still needs under load
CACHED_BYTES = 60_000  # per cached radiograph: a picture of 224 x 224 px, maps of 18 findings
MIN_BUDGET_MIB = 768
MIN_FREE_BYTES = MIN_BUDGET_MIB * MIB - PROCESS_BYTES
CGROUP_SHARE, MACHINE_SHARE = 0.9, 0.5
"""Shares of the container's limit, which also counts socket buffers, and of the machine's memory,
which other processes need too."""
DEFAULT_REQUEST_MIB, DEFAULT_IN_FLIGHT_MIB, DEFAULT_PIXELS = 32, 256, 50_000_000
"""Default limits, unless the budget is too small for them."""
MAX_DECODE_BYTES = 512 * MIB  # for each decode thread; more would never be used
MIN_LEFT_BYTES = 16 * MIB  # minimum that must remain for drawing
MIN_PIXEL_BYTES = 6
"""Bytes that decoding a pixel of 16 bits takes. Colour and transparency take more: images that do
not fit are refused by their own size."""

_CGROUPS = ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes")


@dataclass(frozen=True, slots=True, kw_only=True)
class Memory:
    """The budget, its shares and the limits that follow from it, in bytes and pixels."""

    budget_bytes: int
    process_bytes: int  # for the server's process, models included
    requests_bytes: int
    decode_bytes: int
    drawing_bytes: int
    max_request_bytes: int
    max_pixel_count: int
    decode_threads: int  # images that are decoded at once
    decode_processes: int  # maximum number; 1 if only isolated files are decoded in processes
    in_processes: bool  # whether all files are decoded in processes, or only isolated ones


def divide(settings: Settings, cores: int) -> Memory:
    """Divide the budget. Raises SettingsError, naming the flags and values that contradict."""
    budget, source = _budget(settings)
    process = process_share(settings)
    free = budget - process
    if free < MIN_FREE_BYTES:
        raise SettingsError(
            f"{settings.told('model')}: the process and {loaded_at_once(settings)} models take "
            f"{process // MIB} MiB, which leaves too little of {source}"
        )
    requests = settings.max_in_flight_mib * MIB or max(
        settings.max_request_mib * MIB, min(DEFAULT_IN_FLIGHT_MIB * MIB, free // 8)
    )
    request = settings.max_request_mib * MIB or min(DEFAULT_REQUEST_MIB * MIB, requests)
    most_at_once = max(settings.decode_processes, settings.decode_threads or cores)
    decode = min(MAX_DECODE_BYTES * most_at_once, free // 5)
    pixels = settings.max_pixels or min(DEFAULT_PIXELS, decode // MIN_PIXEL_BYTES)
    if request > requests:
        raise SettingsError(
            f"{settings.told('max_request_mib')} is above {settings.told('max_in_flight_mib')}: "
            "no request of that size could be received"
        )
    if requests > free // 3:
        name = "max_in_flight_mib" if settings.max_in_flight_mib else "max_request_mib"
        raise SettingsError(
            f"{settings.told(name)} is too much for {source}: {process // MIB} MiB are for "
            "the process and the model, and requests may take a third of the rest, "
            f"{free // 3 // MIB} MiB"
        )
    entry_bytes = CACHED_BYTES * len(settings.model)
    if settings.cache_entries * entry_bytes > free // 3:
        raise SettingsError(
            f"{settings.told('cache_entries')} is too much for {source}: the cache may take "
            f"{free // 3 // MIB} MiB of it, which is enough for {free // 3 // entry_bytes} entries"
            f"{' of each model' if len(settings.model) > 1 else ''}"
        )
    if pixels * MIN_PIXEL_BYTES > decode:
        raise SettingsError(
            f"{settings.told('max_pixels')} is too much for {source}: decoding an image may take "
            f"{decode // MIB} MiB of it, which is enough for {decode // MIN_PIXEL_BYTES} pixels"
        )
    left = free - requests - undeclared_bytes(requests, request) - decode
    processes, threads = _decoders(settings, cores, request, left)
    processes_bytes = FORK_SERVER_BYTES + processes * process_bytes(request)
    if processes_bytes > left - MIN_LEFT_BYTES:
        name = "decode_processes" if settings.decode_processes > 0 else "max_request_mib"
        raise SettingsError(
            f"{settings.told(name)} is too much for {source}: processes that decode would take "
            f"{processes_bytes // MIB} MiB beside the images"
        )
    return Memory(
        budget_bytes=budget,
        process_bytes=process,
        requests_bytes=requests,
        decode_bytes=decode,
        drawing_bytes=left - processes_bytes,
        max_request_bytes=request,
        max_pixel_count=pixels,
        decode_threads=threads,
        decode_processes=processes,
        in_processes=settings.decode_processes != 0,
    )


def loaded_at_once(settings: Settings) -> int:
    """Return the most models in memory: one is loaded beside the others before it replaces one."""
    return len(settings.model) + bool(settings.admin_listen)


def process_share(settings: Settings) -> int:
    """Return the bytes of the server's process, its models included."""
    return PROCESS_BYTES + MODEL_BYTES * (loaded_at_once(settings) - 1)


def _decoders(settings: Settings, cores: int, request: int, left: int) -> tuple[int, int]:
    """Return the numbers of decode processes and of images that are decoded at once."""
    threads = settings.decode_threads or cores
    if settings.decode_processes == 0:
        return 1, threads
    if settings.decode_processes > 0:
        return settings.decode_processes, settings.decode_processes
    fitting = (left // 2 - FORK_SERVER_BYTES) // process_bytes(request)
    processes = max(1, min(threads, fitting))
    return processes, processes


def decoding(memory: Memory) -> str:
    """Return where images are decoded, in words."""
    if memory.in_processes:
        return f"in {memory.decode_processes} processes"
    return f"in {memory.decode_threads} threads, JPEG 2000 in a process"


def beyond_process_share(to_cache_bytes: int, share_bytes: int) -> int:
    """Return the bytes by which this process, warm and its caches full, will exceed its share."""
    found = re.search(r"^Pss:\s+(\d+) kB", _read("/proc/self/smaps_rollup"), re.MULTILINE)
    process_bytes = int(found[1]) * 1024 if found else 0
    return max(0, process_bytes + WORKING_BYTES + to_cache_bytes - share_bytes)


def _budget(settings: Settings) -> tuple[int, str]:
    """Return the budget, and its description for error messages."""
    limit, machine = _cgroup_limit_bytes(), _machine_bytes()
    if given := settings.memory_budget_mib:
        if given < MIN_BUDGET_MIB:
            raise SettingsError(
                f"{settings.told('memory_budget_mib')} is below {MIN_BUDGET_MIB}; 0 chooses what "
                "the machine allows"
            )
        if given * MIB > (most := min(limit, machine)):
            what = "container" if limit < machine else "machine"
            raise SettingsError(
                f"{settings.told('memory_budget_mib')} is above the "
                f"{most // MIB:.0f} MiB that this {what} has"
            )
        return given * MIB, settings.told("memory_budget_mib")
    if limit < machine:
        budget, what = int(CGROUP_SHARE * limit), "memory limit of this container"
    else:
        budget, what = int(MACHINE_SHARE * machine), "memory of this machine"
    if budget < MIN_BUDGET_MIB * MIB:
        raise SettingsError(
            f"the {what} allows a budget of {budget // MIB} MiB; --memory-budget-mib must be at "
            f"least {MIN_BUDGET_MIB}"
        )
    return budget, f"the {budget // MIB} MiB that the {what} allows"


def _cgroup_limit_bytes() -> float:
    """Return the limit of this process's cgroup, of either version; infinity without one."""
    limits = []
    for path in _cgroup_files():
        text = _read(path).strip()
        if text.isdigit():
            limits.append(int(text))
    return min(limits, default=float("inf"))


def _cgroup_files() -> list[str]:
    """Return the files that may hold a limit: of the process's own cgroup and of all above it."""
    files = [*_CGROUPS]
    for line in _read("/proc/self/cgroup").splitlines():
        number, controllers, path = line.split(":", 2)
        for above in (Path(path), *Path(path).parents):
            if number == "0":
                files.append(f"/sys/fs/cgroup{above}/memory.max")
            elif "memory" in controllers.split(","):
                files.append(f"/sys/fs/cgroup/memory{above}/memory.limit_in_bytes")
    return files


def _machine_bytes() -> int:
    found = re.search(r"MemTotal:\s+(\d+) kB", _read("/proc/meminfo"))
    return int(found[1]) * 1024 if found else 2**31


def _read(path: str) -> str:
    try:
        return Path(path).read_text()
    except OSError:  # absent, or not readable
        return ""
