"""Run by build/ray: two replicas on Ray, asked by the client as it is. Prints what was seen."""

import io
import json
import os
import secrets
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any
from urllib.request import urlopen

import grpc
import numpy as np
import ray
from grpc_health.v1 import health_pb2, health_pb2_grpc
from PIL import Image
from ray import serve
from scripts.demo_ray import ADDRESS, READY_S, SETTINGS, isolate, kill_under_load, ray_serve, sample
from tests.otlp_receiver import Receiver

from cxr.v1 import chest_xray_pb2 as pb
from cxr.v1.chest_xray_pb2_grpc import ChestXrayServiceStub
from cxr_client import BalancingConfig, Client, CxrError, RetryConfig
from cxr_server.ray_app import application

ONCE = RetryConfig(max_attempts=1)
SPANS = 5  # of the call, two of waiting, decoding and inference
RESERVED = 2 * 2**30  # bytes, by one replica of each application
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
            "large": error_of(lambda: client.predict(bytes(31 * 2**20))),
        }


def noise(side_px: int, seed: int) -> bytes:
    """A large file that takes long to decode."""
    pixels_hw = np.random.default_rng(seed).integers(0, 255, (side_px, side_px), dtype=np.uint8)
    file = io.BytesIO()
    Image.fromarray(pixels_hw).save(file, "PNG", compress_level=1)
    return file.getvalue()


def late(folder: Path) -> dict[str, Any]:
    """Let deadlines pass and callers leave until a replica has dropped calls."""
    images = [noise(4000, seed) for seed in range(4)]
    errors: list[dict[str, Any]] = []
    dropped, start_s = 0.0, time.monotonic()

    def ask(image: bytes) -> None:
        with Client(ADDRESS, retry=ONCE) as client:
            errors.append(error_of(lambda: client.predict(image, timeout_s=0.5)))

    while not dropped and time.monotonic() - start_s < READY_S:
        threads = [threading.Thread(target=ask, args=(image,)) for image in images]
        for each in threads:
            each.start()
        for each in threads:
            each.join()
        dropped = sum(values(folder, 'cxr_calls_dropped_total{cause="cancelled"}'))
    while any(held := values(folder, "cxr_calls_held")) and time.monotonic() - start_s < READY_S:
        time.sleep(0.2)
    kinds = {error["kind"] for error in errors if error}
    return {"kinds": sorted(kinds), "dropped": dropped, "held": held}


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


def logged(folder: Path, event: str = "") -> list[dict[str, Any]]:
    lines = []
    for path in folder.glob("session_latest/logs/worker-*"):
        for line in path.read_text(errors="replace").splitlines():
            if line.startswith("{") and event in (facts := json.loads(line)).get("event"):
                lines.append(facts)
    return lines


def metrics(folder: Path) -> dict[str, str]:
    """The page of each replica."""
    served = {}
    for facts in logged(folder, "serving"):
        with urlopen(f"http://127.0.0.1:{facts['metrics_port']}/metrics", timeout=30) as page:
            served[facts["replica"]] = page.read().decode()
    return served


def values(folder: Path, series: str) -> list[float]:
    """The value of a series in each replica."""
    lines = [line for page in metrics(folder).values() for line in page.splitlines()]
    return [float(line.split()[-1]) for line in lines if line.startswith(f"{series} ")]


def beside_another(image: bytes) -> dict[str, Any]:
    """Deploy a second application, which lacks its model at first."""
    kept = {"num_cpus": 0}  # all are taken
    missing = application(replace(settings, model=("missing",)), ray_actor_options=kept)
    try:
        serve.run(missing, name="other", route_prefix="/other")
    except RuntimeError:
        (deployment,) = serve.status().applications["other"].deployments.values()
        refused = deployment.message.splitlines()[-1]
    whole = application(settings, ray_actor_options=kept)
    serve.run(whole, name="other", route_prefix="/other")
    found: dict[str, Any] = {"refused": refused}
    for name, metadata in (("unnamed", {}), ("cxr", {"application": "cxr"})):
        with Client(ADDRESS, timeout_s=60, metadata=metadata) as client:
            # HAProxy hears of the application a moment later.
            start_s, error = time.monotonic(), {}
            while time.monotonic() - start_s < READY_S:
                error = error_of(lambda client=client: client.predict(image))
                if bool(error) == (name == "unnamed"):
                    break
            found[name] = error
    start_s = time.monotonic()
    while found.get("reserved") != RESERVED and time.monotonic() - start_s < READY_S:
        free_bytes = ray.available_resources()["memory"]  # of a moment ago
        found["reserved"] = ray.cluster_resources()["memory"] - free_bytes
    serve.delete("other")
    return found


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

    daemon = True  # does not hold up a Ray that cannot start
    status = ""

    def run(self) -> None:
        with Client(ADDRESS) as client:
            self.status = client.wait_until_ready(READY_S).status.name


def traced(image: bytes, receiver: Receiver) -> list[str]:
    """Call within a trace of the caller's own, and wait for its spans."""
    trace_id, start_s = secrets.token_hex(16), time.monotonic()
    with grpc.insecure_channel(ADDRESS) as channel:
        stub = ChestXrayServiceStub(channel)
        metadata = [("traceparent", f"00-{trace_id}-{secrets.token_hex(8)}-01")]
        stub.Predict(pb.PredictRequest(image=image), timeout=60, metadata=metadata)
    spans: list[str] = []
    while len(spans) < SPANS and time.monotonic() - start_s < READY_S:
        spans = [span.name for span in receiver.spans if span.trace_id == trace_id]
        time.sleep(0.1)
    return sorted(spans)


def main() -> None:
    isolate()
    waiting, image, receiver = Waiting(), sample(), Receiver()
    waiting.start()
    os.environ |= receiver.env
    with receiver, ray_serve(settings, 2) as folder:
        waiting.join()
        found = {"waited_for": waiting.status, **contract(image), **probes()}
        found["traced"] = traced(image, receiver)
        found["full"] = at_once(image, 40, ONCE)
        found["full_but_repeated"] = at_once(image, 20)
        found["metrics"] = ["cxr_build_info{" in page for page in metrics(folder).values()]
        found["late"] = late(folder)
        seen = kill_under_load(image)
        found["kill"] = {
            "calls": len(seen.repeating.seconds),
            "errors": seen.repeating.errors,
            "codes_without_retries": sorted({text.split(":")[0] for text in seen.once.errors}),
        }
        found["scaled_down"] = scale_down(image, folder)
        found["beside"] = beside_another(image)
        found["warnings"] = sorted(
            {
                str(facts)
                for facts in logged(folder)
                if facts.get("replica") and facts["level"] not in ("debug", "info")
            }
        )
    print(json.dumps(found))


if __name__ == "__main__":
    main()
