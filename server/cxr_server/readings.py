"""Readings: what the metrics port reads from the server at each scrape.

Nothing here is counted while a call is answered. docs/metrics.md lists all of it.
"""

from collections.abc import Iterable, Iterator

from prometheus_client.core import Metric
from prometheus_client.registry import Collector

from cxr_server import model_readings
from cxr_server.admission import Admission
from cxr_server.imaging.radiograph import InputWarning
from cxr_server.lifecycle import Lifecycle, Phase
from cxr_server.model import ServingModel
from cxr_server.observability import logs
from cxr_server.observability.families import counter, gauge
from cxr_server.observability.metrics import Metrics
from cxr_server.observability.processes import Usages
from cxr_server.observability.stages import Stage
from cxr_server.rpc import servicer
from cxr_server.rpc.open_inference.servicer import MODEL_INFER
from cxr_server.rpc.server import Server
from cxr_server.service import InferenceService
from cxr_server.settings import Settings

_PREDICT_STAGES = (Stage.DECODE, Stage.QUEUE, Stage.INFERENCE)


def begin_at_zero(metrics: Metrics, settings: Settings, models: Iterable[str] = ()) -> None:
    """Let the series of the methods, and of models by name, exist before the first call."""
    stages: dict[str, Iterable[Stage]]
    stages = {servicer.PREDICT: _PREDICT_STAGES, servicer.EXPLAIN: Stage}
    if settings.open_inference:
        stages[MODEL_INFER] = _PREDICT_STAGES
    metrics.expect(stages, (servicer.HEALTH, servicer.DESCRIBE_MODEL))
    for name in models:
        metrics.expect_model(name, stages, InputWarning)


class Readings(Collector):
    """The state, the limits, and what is held of them. Those of the model begin when it serves."""

    def __init__(
        self, lifecycle: Lifecycle, admission: Admission, service: InferenceService, server: Server
    ) -> None:
        self._lifecycle, self._admission = lifecycle, admission
        self._service, self._server = service, server
        self._usages = Usages()

    def collect(self) -> Iterator[Metric]:
        """Read everything now."""
        yield from self._of_server()
        if models := dict(self._service.models):
            yield from model_readings.read(models, self._service.memory)
            yield gauge(
                "cxr_model_load_seconds",
                "Time that loading the model, and warming it up, took.",
                dict(self._service.models.load_seconds),
                "served_as",
            )
            yield from self._of_processes(next(iter(models.values())))

    def _of_server(self) -> Iterator[Metric]:
        admission, phase = self._admission, self._lifecycle.phase
        yield gauge(
            "cxr_phase",
            "1 for the phase that the server is in, 0 for the others. Calls are answered in SERVING"
            " and LAME_DUCK.",
            {each.value: each is phase for each in Phase},
            "phase",
        )
        yield gauge("cxr_calls_held", "Calls admitted and not ended.", admission.calls)
        yield gauge("cxr_calls_limit", "The most calls admitted at once.", admission.max_calls)
        bulk = admission.bulk_calls.total()
        yield gauge("cxr_bulk_calls_held", "Bulk calls admitted and not ended.", bulk)
        yield gauge(
            "cxr_bulk_calls_limit",
            "The most bulk calls admitted at once.",
            admission.max_bulk_calls,
        )
        yield gauge(
            "cxr_request_bytes_held",
            "Bytes of requests, received or declared, that calls hold.",
            admission.held_bytes,
        )
        yield gauge(
            "cxr_request_bytes_limit", "The most bytes of requests held.", admission.max_bytes
        )
        yield gauge(
            "cxr_memory_budget_bytes",
            "Memory that the server and its decode processes may take together.",
            self._service.memory.budget_bytes,
        )
        yield counter(
            "cxr_log_lines_dropped",
            "Log lines that were not written, since stderr was full or closed.",
            logs.dropped(),
        )
        audit = self._server.audit
        yield counter(
            "cxr_audit_lines_lost",
            "Lines that the audit file lost, since the disk refused them. 0 without such a file.",
            audit.lost if audit else 0,
        )
        yield counter(
            "cxr_reload_failures",
            "Times that the file of tokens, or those of the certificates, could not be read again"
            " or were not valid, or the audit file could not be opened again: what was in use"
            " stays.",
            self._server.reload_failures,
            "files",
        )
        yield gauge(
            "cxr_certificate_expiry_timestamp_seconds",
            "Unix time at which the certificate in use expires: the server's own, or the first of"
            " the client CAs. None without TLS.",
            self._server.certificate_expiries,
            "certificate",
        )

    def _of_processes(self, model: ServingModel) -> Iterator[Metric]:
        processes = model.resources.processes
        yield gauge("cxr_decode_processes", "Processes that decode.", len(processes))
        usage = self._usages.read(processes.all_pids)
        yield gauge(
            "cxr_decode_processes_memory_bytes",
            "Memory of the decode processes and their fork server, shared pages counted once.",
            usage.memory_bytes,
        )
        yield counter(
            "cxr_decode_processes_cpu_seconds",
            "CPU time of the decode processes and their fork server. What a process took between"
            " the last scrape and its end is missing.",
            usage.cpu_s,
        )
