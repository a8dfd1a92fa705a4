"""What a serving process is made of."""

import json
import os
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

import psutil

from serving import ServerProcess

HEAVY = (
    "torch",
    "torchvision",
    "torchxrayvision",
    "pandas",
    "skimage",
    "scipy",
    "sklearn",
    "cv2",
    "opentelemetry",
)

SERVE_ONE_IMAGE = """
import asyncio, json, sys
from cxr_server import settings
from cxr_server.app import App
from cxr_server.bundles.store import SAMPLES_PATH
from cxr_server.observability.call import Call
from cxr_server.requests import PredictRequest

async def main():
    app = App(settings.parse(sys.argv[1:], env={}))
    await app.start()
    await app.load()
    model = app.service.models.get("")
    image = next(SAMPLES_PATH.glob("*.png")).read_bytes()
    await app.service.predict(PredictRequest(image=image), Call("", "", ""))
    print(json.dumps([model.engine.name, sorted({name.split(".")[0] for name in sys.modules})]))
    await app.drain()

asyncio.run(main())
"""


def test_a_prepared_bundle_is_served_without_torch_or_anything_heavy(
    tiny_bundle: Path,
) -> None:
    flags = ["--model", str(tiny_bundle), "--engine", "openvino"]
    flags += ["--listen", "127.0.0.1:0"]
    run = subprocess.run(
        [sys.executable, "-c", SERVE_ONE_IMAGE, *flags],
        capture_output=True,
        text=True,
        timeout=100,
        check=True,
    )
    line = next(line for line in run.stdout.splitlines() if line.startswith("["))
    engine, modules = json.loads(line)
    assert engine == "openvino"
    assert [name for name in HEAVY if name in modules] == []
    assert "numpy" in modules  # so that an empty list above would mean something


def test_the_server_runs_on_uvloop(phantom_server: ServerProcess) -> None:
    assert "/uvloop/loop." in Path(f"/proc/{phantom_server.process.pid}/maps").read_text()


def test_no_thread_of_the_server_interrupts_another_that_computes(
    phantom_server: ServerProcess,
) -> None:
    server = psutil.Process(phantom_server.process.pid)
    threads = [each.id for each in server.threads()]
    decoders = [each.pid for each in server.children(recursive=True)]
    assert len(threads) > 5
    assert decoders
    policies = set()
    for each in (*threads, *decoders):
        with suppress(ProcessLookupError):  # it has ended meanwhile
            policies.add(os.sched_getscheduler(each))
    assert policies == {os.SCHED_BATCH}


def test_a_policy_that_the_operator_chose_is_kept() -> None:
    program = (
        "import os; from cxr_server.inference import batch_policy;"
        "os.sched_setscheduler(0, os.SCHED_IDLE, os.sched_param(0));"
        "batch_policy.wait_for_turns(); print(os.sched_getscheduler(0) == os.SCHED_IDLE)"
    )
    run = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    assert run.stdout == "True\n"
