"""Systems: the servers that are compared, each started with its documented command."""

import http.client
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Self, TypeAlias

from benchmarks import model, names, processes
from benchmarks.callers import Task
from benchmarks.processes import ROOT, Worker
from benchmarks.radiographs import CACHE
from cxr_server.inference.engines import BFLOAT16, FLOAT32, INT8

COMPILED = CACHE / "compiled"
LOGS = CACHE / "logs"
BOTH = ("predict", "explain")
START_TIMEOUT_S = 120.0
POLL_S = 0.01


@dataclass(frozen=True, slots=True)
class System:
    """How to start a server and to call it.

    Attributes:
        name: Name in the tables.
        protocol: As in `callers.Task`.
        command: Arguments after the interpreter, for a port and the model's folder.
        ready: Whether the server at a port reports that it is ready.
        python: The interpreter, possibly of another virtual environment.
        methods: Supported methods.
        tries: Maximum number of start attempts.
        root: The checkout that the server is started from.
        precision: What the network is computed in: "float32", "bfloat16" or "int8", which has a
            bundle of its own.
    """

    name: str
    protocol: str
    command: Callable[[int, Path], list[str]]
    ready: Callable[[int], bool]
    python: str = sys.executable
    methods: tuple[str, ...] = BOTH
    tries: int = 1
    root: Path = ROOT
    precision: str = FLOAT32

    def bundle(self, small: bool) -> Path:
        """Return the folder of the benchmark model, made by the checkout at `root`."""
        if self.root == ROOT:
            return model.int8_bundle(small) if self.precision == INT8 else model.bundle(small)
        done = subprocess.run(
            [self.python, "-c", f"from benchmarks import model; print(model.bundle({small}))"],
            cwd=self.root,
            env=processes.environment(root=self.root),
            check=True,
            stdout=subprocess.PIPE,
            text=True,
        )
        return Path(done.stdout.splitlines()[-1])


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


def _engine_command(module: str, *flags: str) -> Callable[[int, Path], list[str]]:
    """Return the command of a module of the benchmark that runs this project's engine."""
    engine = ("--cache-dir", str(COMPILED), *flags)
    return lambda port, bundle: [
        *("-m", module, "--port", str(port), "--bundle", str(bundle), *engine),
    ]


OURS = System(
    names.OURS,
    "grpc",
    lambda port, bundle: [
        *("-m", "cxr_server", "serve", "--model", str(bundle)),
        *("--listen", f"127.0.0.1:{port}", "--cache-dir", str(COMPILED)),
    ],
    _grpc_ready,
    methods=("predict", "explain", "explain_again"),
)


def _ours_with(name: str, *flags: str) -> System:
    def command(port: int, bundle: Path) -> list[str]:
        return [*OURS.command(port, bundle), *flags]

    return replace(OURS, name=name, command=command, methods=("predict",))


OURS_IN_THREADS = _ours_with(names.OURS_IN_THREADS, "--decode-processes", "0")
OURS_IN_BUDGET = _ours_with(names.OURS_IN_BUDGET, "--memory-budget-mib", str(names.BUDGET_MIB))
BARE = System(names.BARE, "bare", _engine_command("benchmarks.bare"), _listens)
BARE_ISOLATED = replace(
    BARE, name=names.BARE_ISOLATED, command=_engine_command("benchmarks.bare", "--isolated")
)
OURS_INT8 = replace(_ours_with(names.OURS_INT8), methods=BOTH, precision=INT8)
OURS_BF16 = replace(
    _ours_with(names.OURS_BF16, "--precision", BFLOAT16), methods=BOTH, precision=BFLOAT16
)
BASELINE = System(
    names.BASELINE,
    "http",
    lambda port, bundle: [
        *("-m", "uvicorn", "--factory", "benchmarks.baseline:app", "--log-level", "warning"),
        *("--host", "127.0.0.1", "--port", str(port)),
    ],
    _http_ready("/health"),
)
LITSERVE = System(
    names.LITSERVE,
    "http",
    lambda port, bundle: ["-m", "benchmarks.lit", "--port", str(port)],
    _http_ready("/health"),
)


def other_checkout(root: Path) -> System:
    """Return the server of another checkout, run by the interpreter of its `.venv`, if any."""
    own = root / ".venv" / "bin" / "python"
    python = str(own) if own.exists() else sys.executable
    return replace(OURS, name=names.AGAINST, python=python, root=root.resolve())


def triton(name: str, parts: str, python: str, precision: str = FLOAT32) -> System:
    """Return Triton with OpenVINO and the given preprocessing, in its own virtual environment."""
    return System(
        name,
        "triton",
        _engine_command("benchmarks.triton_model", "--parts", parts),
        # Triton serves HTTP on the port after gRPC.
        lambda port: _http_ready("/v2/models/cxr/ready")(port + 1),
        python,
        methods=("predict",),
        tries=3,  # pytriton's model sometimes asks for its settings before they are offered
        precision=precision,
    )


class EngineAlone:
    """The upper bound: the engine on preprocessed tensors, in its own process."""

    methods = BOTH

    def __init__(self, bundle: Path, name: str = names.ENGINE, precision: str = FLOAT32) -> None:
        self.name = name
        arguments = ["--bundle", str(bundle), "--cache-dir", str(COMPILED)]
        if precision != INT8:  # which is the bundle's own
            arguments += ["--precision", precision]
        self._worker = Worker("benchmarks.ceiling", *arguments, bundle=bundle)
        self.pids = (self._worker.process.pid,)

    def __enter__(self) -> Self:
        """Return itself."""
        return self

    def __exit__(self, *_: object) -> None:
        """End the process."""
        self._worker.end()

    def measure(
        self, *, callers: int, seconds: float, warm_up_s: float, **_: Any
    ) -> dict[str, Any]:
        """Drive the engine with one call at a time, or with as many as it takes."""
        task = {"callers": callers, "seconds": seconds, "warm_up_s": warm_up_s}
        return self._worker.ask(task)


@dataclass(slots=True)
class Running:
    """A started server with a process of callers beside it. Use as a context manager."""

    system: System
    bundle: Path
    started_s: float = 0.0
    address: str = ""
    server: Any = field(init=False)
    callers: Worker = field(init=False)

    @property
    def name(self) -> str:
        """Name of the system."""
        return self.system.name

    @property
    def methods(self) -> tuple[str, ...]:
        """What it can do."""
        return self.system.methods

    @property
    def pids(self) -> tuple[int, ...]:
        """The server's and the callers' processes."""
        return (self.server.pid, self.callers.process.pid)

    def __enter__(self) -> Self:
        """Start the server, wait until it is ready, then start the callers."""
        for left in reversed(range(self.system.tries)):
            try:
                self._start()
                break
            except RuntimeError:
                if not left:
                    raise
        python = self.system.python if self.system.protocol == "triton" else sys.executable
        self.callers = Worker("benchmarks.callers", bundle=self.bundle, python=python)
        return self

    def _start(self) -> None:
        port = _free_port()
        self.address = f"127.0.0.1:{port}"
        LOGS.mkdir(parents=True, exist_ok=True)
        with (LOGS / f"{self.name.replace(' ', '-')}.log").open("wb") as log:
            begun = time.monotonic()
            self.server = subprocess.Popen(
                [self.system.python, *self.system.command(port, self.bundle)],
                cwd=self.system.root,
                env=processes.environment(self.bundle, self.system.root),
                stdout=log,
                stderr=log,
            )
            try:
                while not self.system.ready(port):
                    if self.server.poll() is not None:
                        raise RuntimeError(f"{self.name} did not start: see {log.name}")
                    if time.monotonic() > begun + START_TIMEOUT_S:
                        raise RuntimeError(f"{self.name} took too long: see {log.name}")
                    time.sleep(POLL_S)
            except BaseException:
                processes.end(self.server)
                raise
            self.started_s = time.monotonic() - begun

    def __exit__(self, *_: object) -> None:
        """End both."""
        self.callers.end()
        processes.end(self.server)

    def measure(self, **task: Any) -> dict[str, Any]:
        """Carry out a task, with the processor time that server and callers took for an image."""
        whole = Task(protocol=self.system.protocol, address=self.address, **task)
        pid = self.server.pid
        before_s, threads_before_s = processes.processor_s(pid), processes.threads_s(pid)
        result = self.callers.ask(asdict(whole))
        taken_s, threads_s = processes.processor_s(pid) - before_s, processes.threads_s(pid)
        per_image = 1000 / max(result["total"], 1)
        threads_ms = {
            name: (ran_s - threads_before_s.get(name, 0.0)) * per_image
            for name, ran_s in threads_s.items()
        }
        return result | {"cpu_ms": taken_s * per_image, "threads_ms": threads_ms}

    def memory_mib(self) -> dict[str, float]:
        """Resident memory of the server's processes, now and at its highest, summed."""
        return processes.memory_mib(self.server.pid)


Measured: TypeAlias = EngineAlone | Running


def _free_port() -> int:
    """Return a port that is free, and the two after it as well."""
    while True:
        with ExitStack() as stack:
            first, *others = (stack.enter_context(socket.socket()) for _ in range(3))
            first.bind(("127.0.0.1", 0))
            port = int(first.getsockname()[1])
            try:
                for offset, other in enumerate(others, 1):
                    other.bind(("127.0.0.1", port + offset))
            except OSError:
                continue
            return port
