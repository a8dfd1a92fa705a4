"""A server's Prometheus page as a dictionary."""

from urllib.request import urlopen


def scrape(address: str) -> dict[str, float]:
    """Every sample: `name{label="value"}` -> value."""
    with urlopen(f"http://{address}/metrics", timeout=10) as page:
        lines = page.read().decode().splitlines()
    pairs = (line.rpartition(" ") for line in lines if line and not line.startswith("#"))
    return {name: float(value) for name, _, value in pairs}
