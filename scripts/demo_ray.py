"""`make demo-ray`: two replicas on a local Ray, one of which is killed under load.

Ray runs in a network namespace of its own (`unshare`), since it listens on every address. The
callers are `cxr_client.Client` as it is. For research use only.
"""

import os
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from importlib.resources import files
from pathlib import Path
from typing import Any

from cxr_client import Client, CxrError, RetryConfig
from cxr_server.settings import Settings

ADDRESS = "127.0.0.1:9000"
SETTINGS = Settings(
    engine_threads=1, memory_budget_mib=1024, cache_entries=0, grace_s=5, insecure=True
)
CALLERS = 3
READY_S = 240.0
SERVICES = (
    "cxr.v1.chest_xray_pb2_grpc.add_ChestXrayServiceServicer_to_server",
    "grpc_health.v1.health_pb2_grpc.add_HealthServicer_to_server",
)
_INSIDE = "CXR_DEMO_RAY_INSIDE"


def isolate() -> None:
    """Go on in a network namespace that has loopback alone."""
    if os.environ.pop(_INSIDE, ""):
        subprocess.run(["ip", "link", "set", "lo", "up"], check=True)
        return
    rights = () if os.geteuid() == 0 else ("--map-root-user",)
    os.environ[_INSIDE] = "1"
    os.execvp("unshare", ["unshare", "--net", *rights, sys.executable, *sys.orig_argv[1:]])


@contextmanager
def ray_serve(settings: Settings, replicas: int) -> Iterator[Path]:
    """Run Ray and Ray Serve, in HA mode, with replicas of the server. Yields Ray's folder."""
    folder = Path(tempfile.mkdtemp(prefix="cxr-ray-"))  # short: sockets are in it
    os.environ |= {
        "RAY_SERVE_ENABLE_HA_PROXY": "1",
        "RAY_SERVE_GRPC_MAX_MESSAGE_SIZE": str(64 * 2**20),
        "RAY_SERVE_DIRECT_INGRESS_MIN_DRAINING_PERIOD_S": "2",
        "RAY_USAGE_STATS_ENABLED": "0",
        "RAY_AUTH_MODE": "disabled",
        "RAY_SERVE_HAPROXY_CONFIG_FILE_LOC": f"{folder}/haproxy.cfg",
        "RAY_SERVE_HAPROXY_SOCKET_PATH": f"{folder}/admin.sock",
        "RAY_SERVE_HAPROXY_SERVER_STATE_BASE": str(folder),
        "RAY_SERVE_HAPROXY_SERVER_STATE_FILE": f"{folder}/server-state",
        "RAY_SERVE_HAPROXY_METRICS_SOCKET_PATH": f"{folder}/metrics.sock",
    }
    # Ray reads its environment when it is imported.
    import ray
    from ray import serve
    from ray.serve.config import HTTPOptions, gRPCOptions

    from cxr_server.ray_app import application

    options: dict[str, Any] = {
        "num_cpus": replicas,
        "include_dashboard": False,
        "object_store_memory": 100 * 2**20,
        "log_to_driver": False,
        "logging_level": "warning",
        "_memory": 4 * 2**30,
        "_node_ip_address": "127.0.0.1",
        "_temp_dir": str(folder),
    }
    try:
        ray.init(**options)
    except Exception:
        # Ray gives its processes 30 s to start. A busy machine needs more the first time.
        ray.shutdown()
        ray.init(**options)
    try:
        port = int(ADDRESS.rpartition(":")[2])
        serve.start(
            http_options=HTTPOptions(location="HeadOnly", host="127.0.0.1", port=8000),
            grpc_options=gRPCOptions(port=port, grpc_servicer_functions=list(SERVICES)),
        )
        serve.run(application(settings, num_replicas=replicas), name="cxr")
        yield folder
    finally:
        serve.shutdown()
        ray.shutdown()
        shutil.rmtree(folder, ignore_errors=True)


def replica_pids() -> list[int]:
    """Return the processes of the replicas that this process has started by Ray."""
    table = subprocess.run(["ps", "-eo", "pid=,ppid=,args="], capture_output=True, text=True).stdout
    rows = [line.split(maxsplit=2) for line in table.splitlines()]
    parents = {int(pid): int(parent) for pid, parent, *_ in rows}

    def is_ours(pid: int) -> bool:
        while pid > 1 and pid != os.getpid():
            pid = parents.get(pid, 0)
        return pid == os.getpid()

    replicas = [int(row[0]) for row in rows if row[2:] and "ray::ServeReplica" in row[2]]
    return [pid for pid in replicas if is_ours(pid)]


@dataclass(slots=True)
class Calls:
    """What became of the calls of some callers."""

    attempts: int
    seconds: list[float] = field(default_factory=list)
    errors: list[str] = field(default_factory=list)

    def ask(self, image: bytes, stop: threading.Event) -> None:
        """Predict, one call after another."""
        with Client(ADDRESS, timeout_s=60, retry=RetryConfig(max_attempts=self.attempts)) as client:
            while not stop.is_set():
                start_s = time.monotonic()
                try:
                    client.predict(image)
                except CxrError as error:
                    self.errors.append(f"{error.code}: {error.message}")
                self.seconds.append(time.monotonic() - start_s)


@dataclass(frozen=True, slots=True)
class Seen:
    """What a kill under load looked like to callers who repeat calls, and to one who does not."""

    repeating: Calls
    once: Calls
    whole_again_s: float

    def rows(self) -> list[tuple[str, str]]:
        """Return a table."""
        return [
            ("calls, repeated where the server says so", str(len(self.repeating.seconds))),
            ("... that failed", str(len(self.repeating.errors))),
            ("... the slowest", f"{max(self.repeating.seconds):.1f} s"),
            ("calls without retries", str(len(self.once.seconds))),
            ("... that failed", str(len(self.once.errors))),
            *[("    with", error) for error in sorted(set(self.once.errors))],
            ("two replicas again after", f"{self.whole_again_s:.1f} s"),
        ]


def kill_under_load(image: bytes, settle_s: float = 3.0) -> Seen:
    """Kill a replica with SIGKILL while calls run, and go on until there is another one."""
    before = set(replica_pids())
    repeating, once = Calls(RetryConfig().max_attempts), Calls(1)
    stop = threading.Event()
    kinds = [*[repeating] * CALLERS, once]
    callers = [threading.Thread(target=calls.ask, args=(image, stop)) for calls in kinds]
    for each in callers:
        each.start()
    try:
        time.sleep(settle_s)
        os.kill(min(before), signal.SIGKILL)
        killed_s = time.monotonic()
        # A replica has its name once it has its process; then it loads.
        while len(set(replica_pids()) - {min(before)}) < len(before) or not _all_run():
            if time.monotonic() - killed_s > READY_S:
                raise RuntimeError("Ray did not replace the replica")
            time.sleep(0.5)
        whole_again_s = time.monotonic() - killed_s
        time.sleep(settle_s)
    finally:
        stop.set()
        for each in callers:
            each.join()
    return Seen(repeating, once, whole_again_s)


def _all_run() -> bool:
    """Return whether Ray counts every replica as running."""
    from ray import serve

    deployments: Any = serve.status().applications["cxr"].deployments
    return all(set(each.replica_states) == {"RUNNING"} for each in deployments.values())


def sample() -> bytes:
    """Return a drawn radiograph."""
    folder = files("cxr_server.bundles") / "phantom-samples"
    return min(folder.iterdir(), key=lambda file: file.name).read_bytes()


def main() -> int:
    """Run the demo. Returns the exit status: 0 if no call failed that may be repeated."""
    isolate()
    print("Ray, its proxy and two replicas start: half a minute or more", flush=True)
    start_s = time.monotonic()
    with ray_serve(SETTINGS, 2), Client(ADDRESS) as client:
        client.wait_until_ready(READY_S)
        print(f"serving after {time.monotonic() - start_s:.0f} s", flush=True)
        prediction = client.predict(sample())
        print(f"{prediction.model.name}: {prediction.findings[0].label} first", flush=True)
        print("load, and one replica is killed", flush=True)
        seen = kill_under_load(sample())
    for name, value in seen.rows():
        print(f"  {name:<42} {value}")
    return 1 if seen.repeating.errors else 0


if __name__ == "__main__":
    sys.exit(main())
