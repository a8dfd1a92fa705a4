"""Readings: what the metrics port reads from the server and its model at each scrape.

Nothing here is counted while a call is answered. docs/metrics.md lists all of it.
"""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping

from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    Metric,
)
from prometheus_client.registry import Collector

from cxr_server import __version__
from cxr_server.admission import Admission
from cxr_server.imaging.radiograph import InputWarning
from cxr_server.lifecycle import Lifecycle, Phase
from cxr_server.memory import Memory
from cxr_server.model import ServingModel
from cxr_server.observability import logs
from cxr_server.observability.metrics import Metrics
from cxr_server.observability.processes import Usages
from cxr_server.observability.stages import Stage
from cxr_server.rpc import servicer
from cxr_server.rpc.open_inference.servicer import MODEL_INFER
from cxr_server.rpc.server import Server
from cxr_server.service import InferenceService
from cxr_server.settings import Settings

_PREDICT_STAGES = (Stage.DECODE, Stage.QUEUE, Stage.INFERENCE)


def begin_at_zero(metrics: Metrics, settings: Settings) -> None:
    """Let the series of the methods and warnings exist before the first call."""
    stages: dict[str, Iterable[Stage]]
    stages = {servicer.PREDICT: _PREDICT_STAGES, servicer.EXPLAIN: Stage}
    if settings.open_inference:
        stages[MODEL_INFER] = _PREDICT_STAGES
    metrics.expect(stages, (servicer.HEALTH, servicer.DESCRIBE_MODEL), InputWarning)


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
            yield from _of_models(models, self._service.memory)
            yield _gauge(
                "cxr_model_load_seconds",
                "Time that loading the models, and warming them up, took.",
                sum(self._service.models.load_seconds.values()),
            )
            yield from self._of_processes(next(iter(models.values())))

    def _of_server(self) -> Iterator[Metric]:
        admission, phase = self._admission, self._lifecycle.phase
        yield _gauge(
            "cxr_phase",
            "1 for the phase that the server is in, 0 for the others. Calls are answered in SERVING"
            " and LAME_DUCK.",
            {each.value: each is phase for each in Phase},
            "phase",
        )
        yield _gauge("cxr_calls_held", "Calls admitted and not ended.", admission.calls)
        yield _gauge("cxr_calls_limit", "The most calls admitted at once.", admission.max_calls)
        bulk = admission.bulk_calls.total()
        yield _gauge("cxr_bulk_calls_held", "Bulk calls admitted and not ended.", bulk)
        yield _gauge(
            "cxr_bulk_calls_limit",
            "The most bulk calls admitted at once.",
            admission.max_bulk_calls,
        )
        yield _gauge(
            "cxr_request_bytes_held",
            "Bytes of requests, received or declared, that calls hold.",
            admission.held_bytes,
        )
        yield _gauge(
            "cxr_request_bytes_limit", "The most bytes of requests held.", admission.max_bytes
        )
        yield _gauge(
            "cxr_memory_budget_bytes",
            "Memory that the server and its decode processes may take together.",
            self._service.memory.budget_bytes,
        )
        yield _counter(
            "cxr_log_lines_dropped",
            "Log lines that were not written, since stderr was full or closed.",
            logs.dropped(),
        )
        audit = self._server.audit
        yield _counter(
            "cxr_audit_lines_lost",
            "Lines that the audit file lost, since the disk refused them. 0 without such a file.",
            audit.lost if audit else 0,
        )
        yield _counter(
            "cxr_reload_failures",
            "Times that the file of tokens, or those of the certificates, could not be read again"
            " or were not valid: the former contents stay in use.",
            self._server.reload_failures,
            "files",
        )
        yield _gauge(
            "cxr_certificate_expiry_timestamp_seconds",
            "Unix time at which the certificate in use expires: the server's own, or the first of"
            " the client CAs. None without TLS.",
            self._server.certificate_expiries,
            "certificate",
        )

    def _of_processes(self, model: ServingModel) -> Iterator[Metric]:
        processes = model.resources.processes
        yield _gauge("cxr_decode_processes", "Processes that decode.", len(processes))
        usage = self._usages.read(processes.all_pids)
        yield _gauge(
            "cxr_decode_processes_memory_bytes",
            "Memory of the decode processes and their fork server, shared pages counted once.",
            usage.memory_bytes,
        )
        yield _counter(
            "cxr_decode_processes_cpu_seconds",
            "CPU time of the decode processes and their fork server. What a process took between"
            " the last scrape and its end is missing.",
            usage.cpu_s,
        )


def _of_models(models: Mapping[str, ServingModel], memory: Memory) -> Iterator[Metric]:
    """Read all models: sums, where each has its own, and the names of what is served."""
    first = next(iter(models.values()))
    schedulers = [model.scheduler for model in models.values()]
    engines = [model.engine for model in models.values()]
    caches = [model.cache for model in models.values()]
    yield from _identities(models)
    yield _gauge(
        "cxr_queue_depth",
        "Calls that wait for a decode worker, the engine, or a thread that draws.",
        {
            "decode": sum(scheduler.waiting_to_decode for scheduler in schedulers),
            "engine": sum(scheduler.waiting_to_infer for scheduler in schedulers),
            "draw": first.waiting_to_draw,
        },
        "queue",
    )
    held = first.drawing_budget
    yield _gauge("cxr_answer_bytes_held", "Bytes held to draw and send answers.", held.held_bytes)
    yield _gauge(
        "cxr_answer_bytes_limit", "The most bytes held to draw and send answers.", held.limit_bytes
    )
    decoding = sum(scheduler.decoding for scheduler in schedulers)
    yield _gauge("cxr_decode_workers_busy", "Images that are being decoded.", decoding)
    yield _gauge(
        "cxr_decode_workers_limit", "The most images decoded at once.", memory.decode_threads
    )
    works = [scheduler.engine_work() for scheduler in schedulers]
    yield _counter(
        "cxr_engine_busy_seconds",
        "Time of all engine calls that have ended. Divide its rate by cxr_engine_calls_limit.",
        sum(busy_s for _, busy_s in works),
    )
    yield _gauge(
        "cxr_engine_calls_limit",
        "The most engine calls that run at once.",
        sum(engine.max_in_flight for engine in engines),
    )
    batches: Counter[int] = Counter()
    for found, _ in works:
        batches.update(found)
    yield _batch_sizes(batches, max(engine.max_batch for engine in engines))
    yield _gauge(
        "cxr_evidence_cache_entries", "Images whose evidence is kept.", sum(map(len, caches))
    )
    yield _gauge(
        "cxr_evidence_cache_entries_limit",
        "The most images whose evidence is kept.",
        sum(cache.capacity for cache in caches),
    )
    hits, misses = sum(cache.hits for cache in caches), sum(cache.misses for cache in caches)
    yield _counter("cxr_evidence_cache_hits", "Images found in the cache.", hits)
    yield _counter("cxr_evidence_cache_misses", "Images not found in the cache.", misses)


def _identities(models: Mapping[str, ServingModel]) -> Iterator[Metric]:
    first = next(iter(models.values()))
    info = {
        "version": __version__,
        "model": first.manifest.name,
        "model_version": first.manifest.version,
        "engine": first.engine.name,
        "device": first.engine.device,
    }
    build = GaugeMetricFamily(
        "cxr_build_info", "1, with the default model and its engine as labels.", labels=list(info)
    )
    build.add_metric(list(info.values()), 1)
    yield build
    served = GaugeMetricFamily(
        "cxr_served_model_info",
        "1 for each model, with the name to ask for it by.",
        labels=["served_as", "model", "model_version"],
    )
    for name, model in models.items():
        served.add_metric([name, model.manifest.name, model.manifest.version], 1)
    yield served


def _batch_sizes(batches: Mapping[int, int], max_batch: int) -> Metric:
    """Return a histogram whose buckets are the powers of two up to the largest batch."""
    bounds = [2**power for power in range(max_batch.bit_length())]
    bounds += [max_batch] if max_batch not in bounds else []
    buckets = [
        (f"{bound:.1f}", sum(count for size, count in batches.items() if size <= bound))
        for bound in bounds
    ]
    return HistogramMetricFamily(
        "cxr_engine_batch_images",
        "Images in an engine call that was answered.",
        buckets=[*buckets, ("+Inf", sum(batches.values()))],
        sum_value=sum(size * count for size, count in batches.items()),
    )


def _gauge(
    name: str, help_text: str, value: float | Mapping[str, float], label: str = ""
) -> GaugeMetricFamily:
    family = GaugeMetricFamily(name, help_text, labels=[label] if label else ())
    _add(family, value)
    return family


def _counter(
    name: str, help_text: str, value: float | Mapping[str, float], label: str = ""
) -> CounterMetricFamily:
    family = CounterMetricFamily(name, help_text, labels=[label] if label else ())
    _add(family, value)
    return family


def _add(
    family: GaugeMetricFamily | CounterMetricFamily, value: float | Mapping[str, float]
) -> None:
    """Add one value, or one for each value of the family's label."""
    if isinstance(value, Mapping):
        for label, each in value.items():
            family.add_metric([label], each)
    else:
        family.add_metric([], value)
