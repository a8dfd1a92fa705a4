"""Expressions of the dashboard: what its variables select, summed, divided and over time."""

HERE = 'job=~"$job", instance=~"$instance"'
MODEL = 'rpc_method=~".*/(Predict|Explain|ModelInfer)"'
OK = 'rpc_response_status_code="OK"'
FAILED = 'rpc_response_status_code=~"INTERNAL|UNKNOWN"'


def here(metric: str, *matchers: str) -> str:
    """Return a metric's series that the variables select, and these matchers."""
    return f"{metric}{{{', '.join((HERE, *matchers))}}}"


def rate(metric: str, *matchers: str) -> str:
    """Return how much a counter grows in a second."""
    return f"rate({here(metric, *matchers)}[$__rate_interval])"


def increase(metric: str) -> str:
    """Return how much a counter grows between two points of the graph."""
    return f"increase({here(metric)}[$__rate_interval])"


def total(expr: str, *by: str) -> str:
    """Return the sum over all instances, kept apart by some labels."""
    return f"sum by ({', '.join(by)}) ({expr})" if by else f"sum({expr})"


def quantile(share: float, histogram: str, *matchers: str, by: tuple[str, ...] = ()) -> str:
    """Return a quantile of a histogram over all instances."""
    buckets = total(rate(f"{histogram}_bucket", *matchers), "le", *by)
    return f"histogram_quantile({share}, {buckets})"


def mean(histogram: str, *by: str) -> str:
    """Return the mean of a histogram over all instances."""
    parts = (total(rate(f"{histogram}_{part}"), *by) for part in ("sum", "count"))
    return " / ".join(parts)


def share(part: str, whole: str) -> str:
    """Return a gauge divided by another one, for each instance."""
    return f"{here(part)} / {here(whole)}"
