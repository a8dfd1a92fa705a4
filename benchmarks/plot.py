"""Plot: numbers -> the figures in the documentation."""

from contextlib import suppress
from pathlib import Path

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt

from benchmarks import cost, readout
from benchmarks.names import (
    BASELINE,
    ENGINE,
    ENGINE_BF16,
    ENGINE_INT8,
    LITSERVE,
    OURS,
    OURS_BF16,
    OURS_INT8,
    TRITON,
    TUNED,
)
from benchmarks.readout import Results

COLORS = {
    OURS_INT8: "#0b3c5d",
    OURS_BF16: "#5b5ea6",
    OURS: "#1b6ca8",
    TUNED: "#4f8a7a",
    TRITON: "#9cc3b5",
    LITSERVE: "#c9a227",
    BASELINE: "#b0b0b0",
}
SHOWN_CALLERS = 4
WIDTH = 0.12
"""Of a bar, where the groups are 1 apart."""


def draw_rates(results: Results, path: Path) -> None:
    """Draw rates at four callers, the engine's own rates as lines, and write a PNG."""
    png, jpeg, camera, _ = results["kinds"]
    groups = [("predict", png), ("predict", jpeg), ("predict", camera)]
    groups += [("explain", png), ("explain", jpeg)]
    figure, axes = plt.subplots(figsize=(11, 4.8), dpi=110, layout="constrained")
    labelled, top = set(), 0.0
    for group, (method, kind) in enumerate(groups):
        rates = _rates(results, kind, method)
        top = max(top, *rates.values())
        for place, (name, rate) in enumerate(rates.items()):
            x = group + (place - (len(rates) - 1) / 2) * WIDTH
            label = None if name in labelled else name
            labelled.add(name)
            axes.bar(x, rate, WIDTH * 0.94, color=COLORS[name], label=label)
            axes.annotate(
                f"{rate:.0f}" if rate >= 10 else f"{rate:.1f}",
                (x, rate),
                (0, 2),
                textcoords="offset points",
                ha="center",
                fontsize=7.5,
            )
    above = 0.0
    for engine, name in ((ENGINE, "float32"), (ENGINE_INT8, "int8"), (ENGINE_BF16, "bfloat16")):
        try:
            rate = readout.value(results, engine, png, "predict", SHOWN_CALLERS)
        except readout.Missing:
            continue
        top = max(top, rate)
        is_apart = abs(rate - above) > 0.06 * top
        above = rate
        axes.axhline(rate, color="#333333", linewidth=1, linestyle=(0, (4, 3)), zorder=0)
        axes.annotate(
            f"the engine alone, {name}: {rate:.0f}",
            (0.995, rate),
            (0, 3 if is_apart else -11),
            xycoords=("axes fraction", "data"),
            textcoords="offset points",
            ha="right",
            fontsize=9,
        )
    axes.set_xticks(
        range(len(groups)),
        [f"{readout.METHODS[method]}\n{kind.replace(' ', ' px ', 1)}" for method, kind in groups],
    )
    axes.set_ylim(0, top * 1.3)  # room for the legend
    axes.set_xlim(-0.6, len(groups) + 0.6)  # room for the lines' names
    axes.set_ylabel("images per second")
    axes.set_title(
        f"DenseNet-121 on {results['machine']['cores']} cores "
        f"({readout.processor(results)}), {SHOWN_CALLERS} callers, no GPU",
        fontsize=10,
        loc="left",
    )
    axes.spines[["top", "right"]].set_visible(False)
    axes.tick_params(axis="x", length=0)
    axes.legend(frameon=False, ncols=4, loc="upper left", fontsize=9)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path)
    plt.close(figure)


def _rates(results: Results, kind: str, method: str) -> dict[str, float]:
    found = {}
    for name in COLORS:
        with suppress(readout.Missing):
            found[name] = readout.value(results, name, kind, method, SHOWN_CALLERS)
    return found


def draw_costs(results: Results, path: Path) -> None:
    """Draw the cost of a million images on each machine and in each precision, and write a PNG."""
    shown = cost.costs(results)[::-1]
    figure, axes = plt.subplots(figsize=(9.6, 4.4), dpi=110, layout="constrained")
    labelled = set()
    for place, each in enumerate(shown):
        name = cost.PRECISIONS[each.precision]
        label = None if name in labelled else each.precision
        labelled.add(name)
        axes.barh(place, each.usd, 0.7, color=COLORS[name], label=label)
        axes.annotate(
            f"${each.usd:.2f}  ({each.images_per_s:.0f} images/s)",
            (each.usd, place),
            (4, 0),
            textcoords="offset points",
            va="center",
            fontsize=9,
        )
    names = [f"{each.machine['name']}\n{each.machine['what']}" for each in shown]
    axes.set_yticks(range(len(shown)), names, fontsize=8)
    axes.set_xlim(0, 1.3 * max(each.usd for each in shown))
    axes.set_xlabel("US dollars for a million images")
    axes.set_title(
        f"Predict of 1024 px PNG, DenseNet-121; on-demand prices of {cost.prices()['date']}",
        fontsize=10,
        loc="left",
    )
    axes.spines[["top", "right"]].set_visible(False)
    axes.tick_params(axis="y", length=0)
    axes.legend(frameon=False, loc="center right", fontsize=9)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path)
    plt.close(figure)
