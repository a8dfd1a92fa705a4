"""Run by build/ray: two replicas on Ray, asked by the client as it is. Prints what was seen."""

import json
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any
from urllib.request import urlopen

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc
from ray import serve
from scripts.demo_ray import ADDRESS, READY_S, SETTINGS, isolate, kill_under_load, ray_serve, sample

from cxr_client import BalancingConfig, Client, CxrError, RetryConfig
from cxr_server.ray_app import application

ONCE = RetryConfig(max_attempts=1)
settings = replace(SETTINGS, max_in_flight=4, metrics_listen="127.0.0.1:0")


def error_of(call: Callable[[], Any]) -> dict[str, Any]:
    try:
        call()
    except CxrError as error:
        fields = [violation.field for violation in error.violations]
        kind, after_s = type(error).__name__, error.retry_after_s
        return {
            "kind": kind,
            "code": error.code and error.code.name,
            "reason": error.reason,
            "request_id": error.request_id,
            "fields": fields,
            "retry_after_s": after_s,
            "message": error.message,
        }
    return {}


def contract(image: bytes) -> dict[str, Any]:
    with Client(ADDRESS, timeout_s=60, retry=ONCE, max_request_bytes=2**30) as client:
        explained = client.explain(image, labels=["Effusion"])
        return {
            "request_id": client.predict(image, request_id="mine-1").request_id,
            "heatmap": explained["Effusion"].heatmap[:4].decode("latin-1"),
            "status": client.health().status.name,
            "max_in_flight": client.describe_model().limits.max_in_flight_count,
            "empty": error_of(lambda: client.predict(b"", request_id="mine-2")),
            "label": error_of(lambda: client.explain(image, labels=["Efusion"])),
            "too_large": error_of(lambda: client.predict(bytes(33 * 2**20))),
            "late": error_of(lambda: client.predict(image, timeout_s=0.001)),
        }


def probes() -> dict[str, Any]:
    with grpc.insecure_channel(ADDRESS) as channel:
        stub, kind = health_pb2_grpc.HealthStub(channel), health_pb2.HealthCheckRequest
        service = kind(service="cxr.v1.ChestXrayService")
        try:
            unknown = stub.Check(kind(service="other"), timeout=30).status
        except grpc.RpcError as error:
            unknown = error.code().name
        watch = stub.Watch(service, timeout=60)
        return {
            "check": stub.Check(service, timeout=30).status,
            "unknown": unknown,
            "watch": [each.status for each in watch],  # which ends by itself
        }


def at_once(image: bytes, count: int, retry: RetryConfig | None = None) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = []
    options = {"retry": retry} if retry else {}

    def ask() -> None:
        with Client(ADDRESS, timeout_s=60, **options) as client:
            found.append(error_of(lambda: client.predict(image)))

    threads = [threading.Thread(target=ask) for _ in range(count)]
    for each in threads:
        each.start()
    for each in threads:
        each.join()
    return [error for error in found if error]


def logged(folder: Path, event: str) -> list[dict[str, Any]]:
    lines = []
    for path in folder.glob("session_*/logs/worker-*"):
        for line in path.read_text(errors="replace").splitlines():
            if line.startswith("{") and (facts := json.loads(line)).get("event") == event:
                lines.append(facts)
    return lines


def metrics(folder: Path) -> dict[str, bool]:
    served = {}
    for facts in logged(folder, "serving"):
        with urlopen(f"http://127.0.0.1:{facts['metrics_port']}/metrics", timeout=30) as page:
            served[facts["replica"]] = b"cxr_build_info{" in page.read()
    return served


def scale_down(image: bytes, folder: Path) -> dict[str, Any]:
    """Go from two replicas to one under load, and wait until the other has stopped."""
    errors: list[dict[str, Any]] = []
    stop, calls = threading.Event(), 0

    def ask() -> None:
        nonlocal calls
        balancing = BalancingConfig(health_check=True)
        with Client(ADDRESS, timeout_s=60, retry=ONCE, balancing=balancing) as client:
            while not stop.is_set():
                errors.extend(filter(None, [error_of(lambda: client.predict(image))]))
                calls += 1

    caller = threading.Thread(target=ask)
    caller.start()
    serve.run(application(settings, num_replicas=1), name="cxr")
    start_s = time.monotonic()
    while not logged(folder, "stopped") and time.monotonic() - start_s < READY_S:
        time.sleep(0.5)
    stop.set()
    caller.join()
    drained = {facts["replica"] for facts in logged(folder, "stopped")}
    return {"calls": calls, "errors": errors, "drained": sorted(drained)}


class Waiting(threading.Thread):
    """Waits by the client from before Ray starts."""

    status = ""

    def run(self) -> None:
        with Client(ADDRESS) as client:
            self.status = client.wait_until_ready(READY_S).status.name


def main() -> None:
    isolate()
    waiting, image = Waiting(), sample()
    waiting.start()
    with ray_serve(settings, 2) as folder:
        waiting.join()
        found = {"waited_for": waiting.status, **contract(image), **probes()}
        found["full"] = at_once(image, 40, ONCE)
        found["full_but_repeated"] = at_once(image, 20)
        found["metrics"] = metrics(folder)
        seen = kill_under_load(image)
        found["kill"] = {
            "calls": len(seen.repeating.seconds),
            "errors": seen.repeating.errors,
            "codes_without_retries": sorted({text.split(":")[0] for text in seen.once.errors}),
        }
        found["scaled_down"] = scale_down(image, folder)
        found["errors_logged"] = logged(folder, "internal error")
    print(json.dumps(found))


if __name__ == "__main__":
    main()
