"""The Grafana dashboard as code: prints its JSON, which `make dashboard` writes to cxr-serve.json.

Needs grafana-foundation-sdk, which locks/operations.txt pins.
"""

import json
from collections.abc import Iterator
from itertools import count
from typing import Any

from grafana_foundation_sdk.builders import common, dashboard, prometheus, stat, timeseries
from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.models.common import StackingMode, TooltipDisplayMode
from grafana_foundation_sdk.models.dashboard import DataSourceRef, VariableOption, VariableRefresh

from panels import NUMBERS, ROWS, Graph, Number

SOURCE = DataSourceRef(type_val="prometheus", uid="${datasource}")
VARIABLES = {
    "job": "label_values(cxr_phase, job)",
    "instance": 'label_values(cxr_phase{job=~"$job"}, instance)',
}
GRAPH_SIZE = 8, 7  # width, of Grafana's 24 columns, and height
NUMBER_SIZE = 4, 4
ALL = VariableOption(text=["All"], value=["$__all"])


def variables() -> Iterator[Any]:
    """Yield what is chosen at the top of the dashboard."""
    yield dashboard.DatasourceVariable("datasource").type("prometheus").label("Data source")
    for name, query in VARIABLES.items():
        variable = dashboard.QueryVariable(name).datasource(SOURCE).query(query)
        variable = variable.refresh(VariableRefresh.ON_TIME_RANGE_CHANGED)
        yield variable.include_all(True).multi(True).all_value(".*").current(ALL)


def sized(panel: Any, content: Number | Graph, size: tuple[int, int]) -> Any:
    """Return a panel with what both kinds have."""
    width, height = size
    panel = panel.title(content.title).description(content.description).unit(content.unit)
    return panel.datasource(SOURCE).span(width).height(height)


def number(content: Number) -> Any:
    """Return the panel of a number."""
    target = prometheus.Dataquery().expr(content.expr).instant().ref_id("A")
    return sized(stat.Panel(), content, NUMBER_SIZE).with_target(target)


def graph(content: Graph) -> Any:
    """Return the panel of a graph."""
    mode = StackingMode.NORMAL if content.is_stacked else StackingMode.NONE
    panel = sized(timeseries.Panel(), content, GRAPH_SIZE).min(0)
    panel = panel.stacking(common.StackingConfig().mode(mode))
    panel = panel.fill_opacity(30 if content.is_stacked else 0)
    panel = panel.tooltip(common.VizTooltipOptions().mode(TooltipDisplayMode.MULTI))
    for letter, (legend, expr) in zip("ABCDEFGH", content.queries.items(), strict=False):
        target = prometheus.Dataquery().expr(expr).legend_format(legend).ref_id(letter)
        panel = panel.with_target(target)
    return panel


def build() -> Any:
    """Return the dashboard."""
    board = dashboard.Dashboard("cxr-serve").uid("cxr-serve").tags(["cxr-serve"]).readonly()
    board = board.description("Chest X-ray inference: research use only, never for diagnosis.")
    board = board.refresh("30s").time("now-1h", "now")
    for variable in variables():
        board = board.with_variable(variable)
    ids = count(1)
    for panel in map(number, NUMBERS):
        board = board.with_panel(panel.id(next(ids)))
    for title, graphs in ROWS.items():
        board = board.with_row(dashboard.Row(title).id(next(ids)))
        for panel in map(graph, graphs):
            board = board.with_panel(panel.id(next(ids)))
    return board.build()


if __name__ == "__main__":
    print(json.dumps(build(), cls=JSONEncoder, indent=2, sort_keys=True))
