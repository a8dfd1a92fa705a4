"""Plots: figures of an evaluation -> SVG. They take the JSON values of the document."""

import io
import math
import re
from collections.abc import Callable
from typing import Any

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure

BLUE, ORANGE, GREY, LIGHT = "#0b5394", "#c8500a", "#666666", "#c9cdd2"
_STYLE: dict[Any, Any] = {
    "axes.edgecolor": "#444444",
    "axes.grid": True,
    "axes.axisbelow": True,
    "axes.labelcolor": "#222222",
    "axes.labelsize": 8,
    "axes.linewidth": 0.6,
    "axes.spines.right": False,
    "axes.spines.top": False,
    "axes.titlelocation": "left",
    "axes.titlesize": 8.5,
    "axes.titleweight": "bold",
    "font.family": "sans-serif",
    "font.size": 8,
    "grid.color": "#eceef0",
    "grid.linewidth": 0.6,
    "legend.fontsize": 7.5,
    "legend.frameon": False,
    "svg.fonttype": "none",
    "xtick.color": "#444444",
    "xtick.labelsize": 7.5,
    "xtick.major.width": 0.6,
    "ytick.color": "#444444",
    "ytick.labelsize": 7.5,
    "ytick.major.width": 0.6,
}
_WIDTH_IN = 9.2
Finding = dict[str, Any]


def roc(findings: list[Finding]) -> str:
    """Draw the ROC curve of each finding, with its operating point."""

    def draw(axes: Axes, finding: Finding) -> None:
        axes.plot([0, 1], [0, 1], color=LIGHT, linewidth=0.8)
        axes.plot(*zip(*finding["roc"], strict=True), color=BLUE, linewidth=1.3)
        x, y = 1 - finding["specificity"]["value"], finding["sensitivity"]["value"]
        axes.plot(x, y, "o", color=ORANGE, markersize=4, clip_on=False)
        axes.text(0.97, 0.05, _interval(finding["auroc"]), ha="right", color="#222222", fontsize=7)

    return _panels(
        [each for each in findings if each["roc"]],
        draw,
        x="1 \N{MINUS SIGN} specificity",
        y="Sensitivity",
        name="roc",
    )


def precision_recall(findings: list[Finding]) -> str:
    """Draw the precision-recall curve of each finding; the line is its prevalence."""

    def draw(axes: Axes, finding: Finding) -> None:
        axes.axhline(finding["positives"] / finding["n"], color=LIGHT, linewidth=0.8)
        axes.plot(*zip(*finding["precision_recall"], strict=True), color=BLUE, linewidth=1.3)
        if finding["ppv"]["value"] is not None:
            x, y = finding["sensitivity"]["value"], finding["ppv"]["value"]
            axes.plot(x, y, "o", color=ORANGE, markersize=4, clip_on=False)
        area = finding["average_precision"]
        place = (0.03, 0.05, "left") if area["value"] >= 0.5 else (0.97, 0.95, "right")
        x, y, side = place  # Where the curve is not.
        axes.text(x, y, _interval(area), ha=side, va="center", color="#222222", fontsize=7)

    drawn = [each for each in findings if each["precision_recall"]]
    return _panels(drawn, draw, x="Recall", y="Precision", name="pr")


def calibration(findings: list[Finding]) -> str:
    """Draw the reliability of the probabilities of each finding in bins between deciles."""

    def draw(axes: Axes, finding: Finding) -> None:
        axes.plot([0, 1], [0, 1], color=LIGHT, linewidth=0.8)
        axes.axvline(finding["threshold"], color=ORANGE, linewidth=0.8, linestyle=(0, (2, 2)))
        for name, color in (("calibrated", GREY), ("calibration", BLUE)):
            if finding[name] is None:
                continue
            bins = finding[name]["bins"]
            x = [each["mean_probability"] for each in bins]
            y = [each["positives"]["value"] for each in bins]
            low = [each["positives"]["value"] - each["positives"]["low"] for each in bins]
            high = [each["positives"]["high"] - each["positives"]["value"] for each in bins]
            style: dict[str, Any] = {"color": color, "markersize": 3, "linewidth": 1}
            axes.errorbar(x, y, yerr=[low, high], fmt="o-", elinewidth=0.8, **style)

    drawn = [each for each in findings if each["calibration"]]
    x, y = "Mean probability", "Share of positives"
    return _panels(drawn, draw, x=x, y=y, name="calibration")


def histograms(findings: list[Finding]) -> str:
    """Draw the distribution of the raw probability in positives and in negatives."""

    def draw(axes: Axes, finding: Finding) -> None:
        for counts, color in ((finding["histogram"]["negatives"], GREY), (None, BLUE)):
            values = finding["histogram"]["positives"] if counts is None else counts
            total = sum(values)
            if not total:
                continue
            shares = [value / total for value in values]
            edges = [index / len(shares) for index in range(len(shares) + 1)]
            axes.stairs(shares, edges, color=color, fill=True, alpha=0.28, linewidth=0)
            axes.stairs(shares, edges, color=color, linewidth=1)
        axes.axvline(finding["threshold"], color=ORANGE, linewidth=0.9, linestyle=(0, (2, 2)))
        axes.set_ylim(bottom=0)

    x, y = "Raw probability", "Share of images"
    return _panels(findings, draw, x=x, y=y, name="histogram", square=False)


def forest(
    rows: list[tuple[str, tuple[str, ...], Finding]], *, name: str, x: str, none: float = 0.5
) -> str:
    """Draw estimates with their intervals, one in a line.

    Args:
        rows: Label, notes on the right and estimate; an empty estimate makes a heading.
        name: Of the figure.
        x: What is estimated.
        none: The value of no effect, 0.5 for areas and 0 for differences.
    """
    height = 0.55 + 0.205 * len(rows)
    with mpl.rc_context({**_STYLE, "svg.hashsalt": name}):
        figure = Figure(figsize=(_WIDTH_IN, height))
        axes = figure.add_axes((0.215, 0.42 / height, 0.455, 1 - 0.5 / height))
        axes.axvline(none, color=LIGHT, linewidth=0.8)
        shown = [none]
        for index, (label, notes, estimate) in enumerate(rows):
            position = len(rows) - 1 - index
            heading = not estimate
            text: dict[str, Any] = {
                "va": "center",
                "transform": axes.get_yaxis_transform(),
                "clip_on": False,
            }
            weight = "bold" if heading else "normal"
            indent = -0.44 if heading else -0.42
            axes.text(indent, position, label, weight=weight, **text)
            for column, note in enumerate(notes):
                axes.text(1.03 + 0.4 * column, position, note, color="#222222", **text)
            if heading or estimate["value"] is None:
                continue
            if estimate["low"] is not None:
                shown += [estimate["low"], estimate["high"]]
                span = [estimate["low"], estimate["high"]]
                axes.plot(span, [position] * 2, color=BLUE, linewidth=1.3, solid_capstyle="butt")
            filled = BLUE if estimate["low"] is not None else "white"
            axes.plot(
                estimate["value"],
                position,
                "s",
                color=BLUE,
                markerfacecolor=filled,
                markersize=4,
                markeredgewidth=0.9,
            )
            shown.append(estimate["value"])
        if none == 0:
            widest = 1.1 * max(0.01, *map(abs, shown))
            axes.set_xlim(-widest, widest)
            axes.locator_params(axis="x", nbins=5)
        else:
            axes.set_xlim(max(0.0, math.floor(min(shown) * 10) / 10), 1.005)
        axes.set_ylim(-0.7, len(rows) - 0.3)
        axes.set_yticks([])
        axes.spines["left"].set_visible(False)
        axes.set_xlabel(x)
        return _svg(figure, name)


def _panels(
    findings: list[Finding],
    draw: Callable[[Axes, Finding], None],
    *,
    x: str,
    y: str,
    name: str,
    square: bool = True,
) -> str:
    """Draw a panel for each finding, with shared axes from 0 to 1."""
    if not findings:
        return ""
    columns = 3 if len(findings) in (3, 5, 6) else 4
    rows = math.ceil(len(findings) / columns)
    height = rows * (9.0 if square else 6.4) / columns + 0.35
    with mpl.rc_context({**_STYLE, "svg.hashsalt": name}):
        figure = Figure(figsize=(_WIDTH_IN, height), layout="constrained")
        grid = figure.subplots(rows, columns, squeeze=False, sharex=True)
        for index, axes in enumerate(grid.flat):
            if index >= len(findings):
                axes.set_axis_off()
                continue
            axes.set_title(findings[index]["finding"].replace("_", " "))
            axes.set_xlim(-0.02, 1.02)
            ticks = [0, 0.5, 1]
            axes.set_xticks(ticks, ["0", "0.5", "1"])
            if square:
                axes.set_ylim(-0.02, 1.02)
                axes.set_yticks(ticks, ["0", "0.5", "1"])
                axes.set_aspect("equal")
            else:
                axes.locator_params(axis="y", nbins=3)
            axes.xaxis.set_tick_params(labelbottom=index + columns >= len(findings))
            draw(axes, findings[index])
        figure.supxlabel(x, fontsize=8)
        figure.supylabel(y, fontsize=8)
        return _svg(figure, name)


def _interval(estimate: dict[str, Any]) -> str:
    if estimate["low"] is None:
        return f"{estimate['value']:.2f}"
    return f"{estimate['value']:.2f} [{estimate['low']:.2f}, {estimate['high']:.2f}]"


def _svg(figure: Figure, name: str) -> str:
    """Return the element alone; its ids are made different from those of other figures."""
    buffer = io.StringIO()
    figure.savefig(buffer, format="svg", metadata={"Date": None, "Creator": None})
    text = buffer.getvalue()
    text = re.sub(r"<metadata>.*?</metadata>", "", text, flags=re.DOTALL)
    text = re.sub(r'((?:\bid="|url\(#|href="#))', rf"\g<1>{name}-", text)
    return text[text.index("<svg") :]
