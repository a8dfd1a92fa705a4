"""Systems: the servers that are compared, each started as its users start it."""

import http.client
import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Self

import psutil

from benchmarks import BUNDLE
from benchmarks.callers import Task
from benchmarks.radiographs import CACHE

ROOT = Path(__file__).parent.parent
COMPILED = CACHE / "compiled"
LOGS = CACHE / "logs"
START_TIMEOUT_S = 120.0
POLL_S = 0.01
MIB = 2**20


@dataclass(frozen=True, slots=True)
class System:
    """How to start a server and to call it.

    Attributes:
        name: As in the tables.
        protocol: As in `callers.Task`.
        command: Arguments after the interpreter, for a port and the model's folder.
        ready: Whether the server at a port answers that it is ready.
        python: The interpreter, which may be of another environment.
        methods: What it can do.
    """

    name: str
    protocol: str
    command: Callable[[int, Path], list[str]]
    ready: Callable[[int], bool]
    python: str = sys.executable
    methods: tuple[str, ...] = ("predict", "explain")


def _grpc_ready(port: int) -> bool:
    import grpc
    from grpc_health.v1 import health_pb2, health_pb2_grpc

    if not _listens(port):  # a channel that failed once waits before it tries again
        return False
    with grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
        try:
            check = health_pb2_grpc.HealthStub(channel).Check
            answer = check(health_pb2.HealthCheckRequest(), timeout=1.0)
        except grpc.RpcError:
            return False
        return bool(answer.status == health_pb2.HealthCheckResponse.SERVING)


def _http_ready(path: str) -> Callable[[int], bool]:
    def ready(port: int) -> bool:
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=2)
        try:
            connection.request("GET", path)
            return connection.getresponse().status == 200
        except (OSError, http.client.HTTPException):
            return False
        finally:
            connection.close()

    return ready


def _listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


OURS = System(
    "cxr-serve",
    "grpc",
    lambda port, bundle: [
        *("-m", "cxr_server", "serve", "--model", str(bundle)),
        *("--listen", f"127.0.0.1:{port}", "--cache-dir", str(COMPILED)),
    ],
    _grpc_ready,
    methods=("predict", "explain", "explain_again"),
)
USUAL = System(
    "usual way",
    "http",
    lambda port, bundle: [
        *("-m", "uvicorn", "--factory", "benchmarks.usual:app", "--log-level", "warning"),
        *("--host", "127.0.0.1", "--port", str(port)),
    ],
    _http_ready("/health"),
)
LITSERVE = System(
    "LitServe",
    "http",
    lambda port, bundle: ["-m", "benchmarks.lit", "--port", str(port)],
    _http_ready("/health"),
)


def triton(python: str) -> System:
    """Triton, in an environment of its own."""
    return System(
        "Triton",
        "triton",
        lambda port, bundle: [
            *("-m", "benchmarks.triton_model", "--port", str(port)),
            *("--bundle", str(bundle), "--cache-dir", str(COMPILED)),
        ],
        # The HTTP port is the one after the gRPC port.
        lambda port: _http_ready("/v2/models/cxr/ready")(port + 1),
        python,
        methods=("predict",),
    )


@dataclass(slots=True)
class Running:
    """A started server with a process of callers beside it. Use as a context manager."""

    system: System
    bundle: Path
    started_s: float = 0.0
    address: str = ""
    server: Any = field(init=False)
    callers: Any = field(init=False)

    def __enter__(self) -> Self:
        """Start the server, wait until it is ready, then start the callers."""
        port = _free_port()
        self.address = f"127.0.0.1:{port}"
        LOGS.mkdir(parents=True, exist_ok=True)
        env = _environment(self.bundle)
        with (LOGS / f"{self.system.name.replace(' ', '-')}.log").open("wb") as log:
            begun = time.monotonic()
            self.server = subprocess.Popen(
                [self.system.python, *self.system.command(port, self.bundle)],
                cwd=ROOT,
                env=env,
                stdout=log,
                stderr=log,
            )
            try:
                while not self.system.ready(port):
                    if self.server.poll() is not None:
                        raise RuntimeError(f"{self.system.name} did not start: see {log.name}")
                    if time.monotonic() > begun + START_TIMEOUT_S:
                        raise RuntimeError(f"{self.system.name} took too long: see {log.name}")
                    time.sleep(POLL_S)
                self.started_s = time.monotonic() - begun
                self.callers = subprocess.Popen(
                    [self.system.python, "-m", "benchmarks.callers"],
                    cwd=ROOT,
                    env=env,
                    stdin=subprocess.PIPE,
                    stdout=subprocess.PIPE,
                    text=True,
                )
            except BaseException:
                self._end(self.server)
                raise
        return self

    def __exit__(self, *_: object) -> None:
        """End both."""
        self._end(self.callers)
        self._end(self.server)
        self.callers.stdin.close()
        self.callers.stdout.close()

    def measure(self, **task: Any) -> dict[str, Any]:
        """Carry out a task, with the processor time that server and callers took for it."""
        whole = Task(protocol=self.system.protocol, address=self.address, **task)
        before = [processor_s(each.pid) for each in (self.server, self.callers)]
        self.callers.stdin.write(json.dumps(asdict(whole)) + "\n")
        self.callers.stdin.flush()
        line = self.callers.stdout.readline()
        if not line:
            raise RuntimeError(f"the callers of {self.system.name} failed")
        result: dict[str, Any] = json.loads(line)
        after = [processor_s(each.pid) for each in (self.server, self.callers)]
        total = max(result.pop("total"), 1)
        result["server_cpu_ms"] = 1000 * (after[0] - before[0]) / total
        result["client_cpu_ms"] = 1000 * (after[1] - before[1]) / total
        return result

    def memory_mib(self) -> dict[str, float]:
        """Resident memory of the server's processes, now and at its highest, summed."""
        rss = peak = pss = 0.0
        for process in tree(self.server.pid):
            rss += process.memory_info().rss / MIB
            pss += process.memory_full_info().pss / MIB
            status = Path(f"/proc/{process.pid}/status").read_text(encoding="ascii")
            line = next(line for line in status.splitlines() if line.startswith("VmHWM"))
            peak += int(line.split()[1]) / 1024
        return {"rss": rss, "pss": pss, "peak": peak}

    @staticmethod
    def _end(process: subprocess.Popen[Any]) -> None:
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
    """Return a process and all below it; none where it has ended."""
    try:
        process = psutil.Process(pid)
        return [process, *process.children(recursive=True)]
    except psutil.NoSuchProcess:
        return []


def processor_s(pid: int) -> float:
    """Return the processor time that a process tree has taken."""
    total = 0.0
    for process in tree(pid):
        times = process.cpu_times()
        total += times.user + times.system
    return total


def foreign_s(running: list[Running]) -> float:
    """Return the processor time that went to anything but these servers, and to other guests."""
    times = psutil.cpu_times()
    busy = sum(times) - times.idle - times.iowait - times.guest - times.guest_nice
    own = sum(processor_s(pid) for each in running for pid in (each.server.pid, each.callers.pid))
    return float(busy) - own


def ceiling(bundle: Path, seconds: float) -> dict[str, float]:
    """Measure the engine alone, in a process of its own."""
    command = [sys.executable, "-m", "benchmarks.ceiling", "--bundle", str(bundle)]
    command += ["--cache-dir", str(COMPILED), "--seconds", str(seconds)]
    done = subprocess.run(
        command, cwd=ROOT, env=_environment(bundle), check=True, capture_output=True, text=True
    )
    result: dict[str, float] = json.loads(done.stdout)
    return result


def _environment(bundle: Path) -> dict[str, str]:
    paths = [str(ROOT), str(ROOT / "server"), str(ROOT / "client")]
    return os.environ | {BUNDLE: str(bundle), "PYTHONPATH": os.pathsep.join(paths)}


def _free_port() -> int:
    """Return a port that is free, and the one after it as well."""
    while True:
        with socket.socket() as first, socket.socket() as second:
            first.bind(("127.0.0.1", 0))
            port = int(first.getsockname()[1])
            try:
                second.bind(("127.0.0.1", port + 1))
            except OSError:
                continue
            return port
