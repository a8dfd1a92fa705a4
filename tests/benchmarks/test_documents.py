"""What the documents show is what the published run measured."""

import json
from pathlib import Path

import pytest

from benchmarks import cost, publish, tables

RESULTS = json.loads(Path(publish.DOCS.parent, "benchmarks/results/shown.json").read_text("utf-8"))


def test_the_tables_of_the_documents_are_those_of_the_published_run() -> None:
    blocks, shown = tables.blocks(RESULTS), set()
    for path in publish.DOCUMENTS:
        text = path.read_text(encoding="utf-8")
        assert publish.filled(text, blocks) == text, path
        shown |= {found[1] for found in publish.BLOCK.findall(text)}
    assert shown == set(blocks)


def test_the_cost_of_a_million_images_is_price_by_rate() -> None:
    costs = {(each.machine["name"], each.precision): each for each in cost.costs(RESULTS)}
    served = costs["p5.4xlarge, one server", "float32"]
    assert served.usd == pytest.approx(6.88 / 3600 / 448 * 1e6)
    int8, float32 = (costs["c7a.4xlarge", precision] for precision in ("int8", "float32"))
    assert int8.usd < float32.usd


@pytest.mark.slow
def test_both_plots_are_drawn(tmp_path: Path) -> None:
    from benchmarks import plot

    for draw in (plot.draw_rates, plot.draw_costs):
        draw(RESULTS, tmp_path / "plot.png")
        assert (tmp_path / "plot.png").read_bytes().startswith(b"\x89PNG")
