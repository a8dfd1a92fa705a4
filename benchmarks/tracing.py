"""What logs and tracing cost the server: processor time of a call, in alternating windows.

`make bench-tracing`: on loopback, against a collector in this process. The calls do little
themselves: DescribeModel has one span; Explain, of an image whose evidence is cached, and without a
picture, has three.
"""

import argparse
import statistics
import time
from collections.abc import Callable
from contextlib import ExitStack

import grpc
import numpy as np

from cxr.v1 import chest_xray_pb2 as pb
from cxr.v1.chest_xray_pb2_grpc import ChestXrayServiceStub
from cxr_server.bundles.store import SAMPLES_PATH
from otlp_receiver import Receiver
from serving import ServerProcess

FLAGS = ("--decode-processes", "0", "--engine-threads", "1")
MODES: dict[str, tuple[tuple[str, ...], dict[str, str] | None]] = {
    "off, without log lines": (("--log-level", "error"), None),
    "off": ((), None),
    "sampler off": ((), {"OTEL_TRACES_SAMPLER": "always_off"}),
    "1 %": ((), {"OTEL_TRACES_SAMPLER": "traceidratio", "OTEL_TRACES_SAMPLER_ARG": "0.01"}),
    "100 %": ((), {"OTEL_TRACES_SAMPLER": "always_on"}),
}
"""Flags of the server, and its variables beside those of the collector; None: no tracing."""


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=30)
    parser.add_argument("--calls", type=int, default=100, help="calls in a window")
    arguments = parser.parse_args()
    with ExitStack() as stack:
        receiver = stack.enter_context(Receiver())
        collector = {**receiver.env, "OTEL_BSP_SCHEDULE_DELAY": "5000"}
        servers = {
            name: stack.enter_context(
                ServerProcess(*FLAGS, *flags, env=None if env is None else collector | env)
            )
            for name, (flags, env) in MODES.items()
        }
        stubs = {
            name: ChestXrayServiceStub(  # type: ignore[no-untyped-call]
                stack.enter_context(grpc.insecure_channel(server.address))
            )
            for name, server in servers.items()
        }
        image = min(SAMPLES_PATH.glob("*.png")).read_bytes()
        no_picture = pb.RenderOptions(kind=pb.RENDER_KIND_NONE)
        explain = pb.ExplainRequest(image=image, render=no_picture)
        kinds: dict[str, Callable[[ChestXrayServiceStub], object]] = {
            "DescribeModel": lambda stub: stub.DescribeModel(pb.DescribeModelRequest()),
            "Explain": lambda stub: stub.Explain(explain),
        }
        print("| Call | Tracing | CPU ms | more than the first, ms |")
        print("|---|---|---|---|")
        for kind, call in kinds.items():
            found: dict[str, list[float]] = {name: [] for name in MODES}
            for round_number in range(arguments.rounds + 1):
                for name, stub in stubs.items():
                    before_s = processor_s(servers[name].process.pid)
                    for _ in range(arguments.calls):
                        call(stub)
                    spent_s = processor_s(servers[name].process.pid) - before_s
                    if round_number:  # the first one warms up
                        found[name].append(1000 * spent_s / arguments.calls)
            least = next(iter(found.values()))
            for name, values in found.items():
                more = statistics.median(np.subtract(values, least))  # in the same round
                print(f"| {kind} | {name} | {statistics.median(values):.3f} | {more:+.3f} |")


def processor_s(pid: int) -> float:
    """Return the processor time of all threads of a process."""
    return time.clock_gettime((~pid << 3) | 2)  # what clock_getcpuclockid(3) returns on Linux


if __name__ == "__main__":
    main()
