"""Families: metrics that are read at a scrape, from one value or from one for each label."""

from collections.abc import Mapping

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily

Values = float | Mapping[str, float]
"""One value, or one for each value of the family's label."""


def gauge(name: str, help_text: str, values: Values, label: str = "") -> GaugeMetricFamily:
    """Return a gauge."""
    family = GaugeMetricFamily(name, help_text, labels=[label] if label else ())
    _add(family, values)
    return family


def counter(name: str, help_text: str, values: Values, label: str = "") -> CounterMetricFamily:
    """Return a counter, whose name ends in `_total` in addition."""
    family = CounterMetricFamily(name, help_text, labels=[label] if label else ())
    _add(family, values)
    return family


def _add(family: GaugeMetricFamily | CounterMetricFamily, values: Values) -> None:
    if isinstance(values, Mapping):
        for label, value in values.items():
            family.add_metric([label], value)
    else:
        family.add_metric([], values)
