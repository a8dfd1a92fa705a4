"""Plot: numbers -> the figure in the documentation."""

from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt

from benchmarks import report

COLORS = {
    "cxr-serve": "#1b6ca8",
    "Triton tuned": "#4f8a7a",
    "Triton": "#9cc3b5",
    "LitServe": "#c9a227",
    "baseline": "#b0b0b0",
}
SHOWN_CALLERS = 4


def draw(results: dict[str, Any], path: Path) -> None:
    """Draw rates at four callers, the engine's own rate as a line, and write a PNG."""
    png, jpeg, *_ = results["kinds"]
    groups = [(kind, method) for method in ("predict", "explain") for kind in (png, jpeg)]
    names = [name for name in COLORS if name in results["systems"]]
    figure, axes = plt.subplots(figsize=(8.6, 4.2), dpi=110, layout="constrained")
    width = 0.8 / len(names)
    for place, name in enumerate(names):
        for group, (kind, method) in enumerate(groups):
            try:
                rate = report.value(results, name, kind, method, SHOWN_CALLERS)
            except report.Missing:
                continue
            x = group + (place - (len(names) - 1) / 2) * width
            label = name if group == 0 else None
            axes.bar(x, rate, width * 0.94, color=COLORS[name], label=label)
            axes.annotate(
                f"{rate:.1f}",
                (x, rate),
                (0, 2),
                textcoords="offset points",
                ha="center",
                fontsize=9,
            )
    engine = report.value(results, report.ENGINE, png, "predict", SHOWN_CALLERS)
    axes.axhline(engine, color="#333333", linewidth=1, linestyle=(0, (4, 3)), zorder=0)
    axes.annotate(
        f"the engine alone, on preprocessed tensors: {engine:.1f}",
        (0.995, engine),
        (0, 3),
        xycoords=("axes fraction", "data"),
        textcoords="offset points",
        ha="right",
        fontsize=9,
    )
    axes.set_xticks(
        range(len(groups)),
        [f"{report.METHODS[method]}\n{kind.replace(' ', ' px ')}" for kind, method in groups],
    )
    axes.set_ylim(0, engine * 1.2)
    axes.set_ylabel("images per second")
    axes.set_title(
        f"DenseNet-121 on {results['machine']['cores']} cores "
        f"({results['machine']['processor']}), {SHOWN_CALLERS} callers, no GPU",
        fontsize=10,
        loc="left",
    )
    axes.spines[["top", "right"]].set_visible(False)
    axes.tick_params(axis="x", length=0)
    axes.legend(frameon=False, ncols=len(names), loc="upper left", fontsize=9)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path)
    plt.close(figure)
