"""Cost: rates and list prices -> dollars for a million images."""

import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks import readout
from benchmarks.names import OURS, OURS_BF16, OURS_INT8
from benchmarks.readout import Results

MACHINES = Path(__file__).parent / "machines.toml"
PRECISIONS = {"float32": OURS, "bfloat16": OURS_BF16, "int8": OURS_INT8}
CALLERS = 4


@dataclass(frozen=True, slots=True)
class Cost:
    """What Predict of a million PNG of 1024 px costs on a machine that does nothing else.

    Attributes:
        machine: Name, a description and its price; see `machines.toml`.
        precision: Of the model.
        images_per_s: With all cores busy; callers are elsewhere.
    """

    machine: dict[str, Any]
    precision: str
    images_per_s: float

    @property
    def usd(self) -> float:
        """Dollars for a million images."""
        return float(self.machine["usd_per_hour"]) / 3600 * 1e6 / self.images_per_s


def prices() -> dict[str, Any]:
    """Return the machines with their prices, and the source and the date of these."""
    return tomllib.loads(MACHINES.read_text(encoding="utf-8"))


def costs(results: Results) -> list[Cost]:
    """Return what is known of each machine and precision."""
    png = results["kinds"][0]
    found = []
    for machine in prices()["machine"]:
        rates = dict(machine.get("images_per_s", {}))
        if "cores" in machine:
            cpu_ms = machine.get("cpu_ms") or {
                precision: readout.value(results, system, png, "predict", CALLERS, "cpu_ms")
                for precision, system in PRECISIONS.items()
                if system in results["systems"]
            }
            rates = {name: 1000 * machine["cores"] / ms for name, ms in cpu_ms.items()}
        found += [Cost(machine, precision, rate) for precision, rate in rates.items()]
    return found
