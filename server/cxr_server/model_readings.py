"""Model readings: what the metrics port reads from the models at each scrape.

What each model counts for itself has a label with the name that it is served by: a model that was
swapped begins at zero, which a sum over models would hide.
"""

from collections.abc import Iterator, Mapping

from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    Metric,
)

from cxr_server import __version__
from cxr_server.memory import Memory
from cxr_server.model import ServingModel
from cxr_server.observability.families import counter, gauge

LABEL = "served_as"


def read(models: Mapping[str, ServingModel], memory: Memory) -> Iterator[Metric]:
    """Read all models, at least one."""
    yield from _identities(models)
    yield from _shared(models, memory)
    yield from _engines(models)
    yield from _caches(models)


def _identities(models: Mapping[str, ServingModel]) -> Iterator[Metric]:
    first = next(iter(models.values()))
    info = {
        "version": __version__,
        "model": first.manifest.name,
        "model_version": first.manifest.version,
        "engine": first.engine.name,
        "device": first.engine.device,
        "precision": first.engine.precision,
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


def _shared(models: Mapping[str, ServingModel], memory: Memory) -> Iterator[Metric]:
    """Read what all models share, and the sums of what waits for it."""
    first = next(iter(models.values()))
    schedulers = [model.scheduler for model in models.values()]
    yield gauge(
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
    yield gauge("cxr_answer_bytes_held", "Bytes held to draw and send answers.", held.held_bytes)
    yield gauge(
        "cxr_answer_bytes_limit", "The most bytes held to draw and send answers.", held.limit_bytes
    )
    decoding = first.resources.decoders.busy
    yield gauge("cxr_decode_workers_busy", "Images that are being decoded.", decoding)
    yield gauge(
        "cxr_decode_workers_limit", "The most images decoded at once.", memory.decode_threads
    )


def _engines(models: Mapping[str, ServingModel]) -> Iterator[Metric]:
    works = {name: model.scheduler.engine_work() for name, model in models.items()}
    yield counter(
        "cxr_engine_busy_seconds",
        "Time of all engine calls that have ended. Divide its rate by cxr_engine_calls_limit.",
        {name: busy_s for name, (_, busy_s) in works.items()},
        LABEL,
    )
    yield gauge(
        "cxr_engine_calls_limit",
        "The most calls of the model's engine that run at once.",
        {name: model.engine.max_in_flight for name, model in models.items()},
        LABEL,
    )
    yield counter(
        "cxr_engine_failures",
        "Calls of the engine that failed, and losses of its device.",
        {name: model.engine_failures for name, model in models.items()},
        LABEL,
    )
    rebuilds = CounterMetricFamily(
        "cxr_engine_rebuilds",
        "Attempts to replace a failed engine: rebuilt, or failed.",
        labels=[LABEL, "outcome"],
    )
    for name, model in models.items():
        for outcome, count in model.engine_rebuilds.items():
            rebuilds.add_metric([name, outcome], count)
    yield rebuilds
    sizes = HistogramMetricFamily(
        "cxr_engine_batch_images", "Images in an engine call that was answered.", labels=[LABEL]
    )
    for name, (batches, _) in works.items():
        images = sum(size * count for size, count in batches.items())
        sizes.add_metric([name], _buckets(batches, models[name].engine.max_batch), images)
    yield sizes


def _buckets(batches: Mapping[int, int], max_batch: int) -> list[tuple[str, float]]:
    """Return the cumulative counts up to the powers of two, the largest batch and infinity."""
    bounds = sorted({max_batch, *(2**power for power in range(max_batch.bit_length()))})
    counts = [sum(count for size, count in batches.items() if size <= each) for each in bounds]
    pairs = zip(bounds, counts, strict=True)
    return [*((f"{bound:.1f}", count) for bound, count in pairs), ("+Inf", sum(batches.values()))]


def _caches(models: Mapping[str, ServingModel]) -> Iterator[Metric]:
    caches = {name: model.source.cache for name, model in models.items()}
    yield gauge(
        "cxr_evidence_cache_entries",
        "Images whose evidence is kept.",
        {name: len(cache) for name, cache in caches.items()},
        LABEL,
    )
    yield gauge(
        "cxr_evidence_cache_entries_limit",
        "The most images whose evidence is kept; 0: no cache.",
        {name: cache.capacity for name, cache in caches.items()},
        LABEL,
    )
    yield counter(
        "cxr_evidence_cache_hits",
        "Images found in the cache.",
        {name: cache.hits for name, cache in caches.items()},
        LABEL,
    )
    yield counter(
        "cxr_evidence_cache_misses",
        "Images not found in the cache.",
        {name: cache.misses for name, cache in caches.items()},
        LABEL,
    )
