"""Processes: start and end them, exchange lines of JSON, measure processor time and memory."""

import json
import os
import subprocess
import sys
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import psutil

from benchmarks import BUNDLE

ROOT = Path(__file__).parent.parent
MIB = 2**20
TRITON_PARTS = {
    "": "handler with decoder and engine",
    "tritonserver": "tritonserver",
    "triton_python_b": "Python backend",
}
"""Triton's processes, by their names, of which Linux keeps 15 letters; "" is the one started."""


class Worker:
    """A benchmark module in a process: one task per line in, one result per line out, as JSON."""

    def __init__(
        self, module: str, *arguments: str, bundle: Path, python: str = sys.executable
    ) -> None:
        self.process = subprocess.Popen(
            [python, "-m", module, *arguments],
            cwd=ROOT,
            env=environment(bundle),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def ask(self, task: dict[str, Any]) -> dict[str, Any]:
        """Run a task. Raises RuntimeError if the process has ended."""
        assert self.process.stdin
        assert self.process.stdout
        self.process.stdin.write(json.dumps(task) + "\n")
        self.process.stdin.flush()
        line = self.process.stdout.readline()
        if not line:
            raise RuntimeError(f"{self.process.args!r} has ended")
        result: dict[str, Any] = json.loads(line)
        return result

    def end(self) -> None:
        """End the process."""
        end(self.process)
        for pipe in (self.process.stdin, self.process.stdout):
            if pipe:
                pipe.close()


def environment(bundle: Path | None = None, root: Path = ROOT) -> dict[str, str]:
    """Return the environment of a compared process: the packages of the checkout at `root`.

    Servers of this project run OpenVINO, as the engine alone does, also where there is a GPU.
    """
    paths: Sequence[Path] = (root, root / "server", root / "client", root / "phantom")
    packages = os.pathsep.join(map(str, paths))
    return os.environ | {BUNDLE: str(bundle), "PYTHONPATH": packages, "CXR_ENGINE": "openvino"}


def end(process: subprocess.Popen[Any]) -> None:
    """End a process and its descendants."""
    children = tree(process.pid)[1:]
    process.terminate()
    try:
        process.wait(20)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
    for child in children:
        if child.is_running():
            child.kill()


def tree(pid: int) -> list[psutil.Process]:
    """Return a process and its descendants; nothing if it has ended."""
    try:
        process = psutil.Process(pid)
        return [process, *process.children(recursive=True)]
    except psutil.NoSuchProcess:
        return []


def processor_s(*pids: int) -> float:
    """Return the processor time of process trees."""
    total = 0.0
    for process in (process for pid in pids for process in tree(pid)):
        with suppress(psutil.NoSuchProcess):  # ended since it was listed
            times = process.cpu_times()
            total += times.user + times.system
    return total


def threads_s(pid: int) -> dict[str, float]:
    """Return the processor time of a server and its descendants by thread and process.

    The main thread is the event loop. Threads of this project are named `cxr-`, and those that the
    engine starts inherit the name. Below Triton, threads have no names: its parts are processes.
    """
    found: dict[str, float] = {}
    trees = tree(pid)
    of_triton = any(_comm(Path(f"/proc/{each.pid}")) == "tritonserver" for each in trees[1:])
    for process in trees:
        folder = Path(f"/proc/{process.pid}")
        in_child = process.pid != pid
        part = _triton_part(_comm(folder) if in_child else "") if of_triton else None
        for task in (folder / "task").glob("*"):
            with suppress(OSError):  # ended since it was listed
                ran_s = int((task / "schedstat").read_text(encoding="ascii").split()[0]) / 1e9
                is_main = task.name == str(pid)
                name = part or _group(_comm(task), is_main=is_main, in_child=in_child)
                found[name] = found.get(name, 0.0) + ran_s
    return found


def _comm(folder: Path) -> str:
    """Return the name of a process or a thread; nothing if it has ended."""
    with suppress(OSError):
        return (folder / "comm").read_text(encoding="utf-8").strip()
    return ""


def _triton_part(comm: str) -> str:
    return TRITON_PARTS.get(comm, "shared memory manager")


def _group(comm: str, *, is_main: bool, in_child: bool) -> str:
    if is_main:
        return "event loop"
    if in_child:
        return "decode processes"
    name = comm.removeprefix("cxr-") if comm.startswith("cxr-") else "gRPC and others"
    return "engine" if name == "loading" else name  # the thread that compiled the network


def foreign_s(*pids: int) -> float:
    """Return the processor time of everything but these trees, stolen time included."""
    times = psutil.cpu_times()
    busy = sum(times) - times.idle - times.iowait - times.guest - times.guest_nice
    return float(busy) - processor_s(*pids)


def memory_mib(pid: int) -> dict[str, float]:
    """Return the resident memory of a process tree, now and at its highest, summed."""
    rss = peak = pss = 0.0
    for process in tree(pid):
        rss += process.memory_info().rss / MIB
        pss += process.memory_full_info().pss / MIB
        status = Path(f"/proc/{process.pid}/status").read_text(encoding="ascii")
        line = next(line for line in status.splitlines() if line.startswith("VmHWM"))
        peak += int(line.split()[1]) / 1024
    return {"rss": rss, "pss": pss, "peak": peak}
