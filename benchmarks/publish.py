"""Publish: results -> plots in docs/, tables in docs/performance.md, a sentence in the README.

They stand between `<!-- bench: NAME -->` and `<!-- end -->`.
"""

import re
from pathlib import Path

from benchmarks import tables
from benchmarks.readout import Results

DOCS = Path(__file__).parent.parent / "docs"
DOCUMENTS = (DOCS / "performance.md", DOCS.parent / "README.md")
BLOCK = re.compile(r"(<!-- bench: ([a-z0-9]+) -->\n).*?(<!-- end -->)", re.DOTALL)


def publish(results: Results) -> None:
    """Draw both plots, and put the blocks into their places."""
    from benchmarks import plot  # matplotlib takes long to import

    plot.draw_rates(results, DOCS / "bench.png")
    plot.draw_costs(results, DOCS / "cost.png")
    blocks = tables.blocks(results)
    for path in DOCUMENTS:
        path.write_text(filled(path.read_text(encoding="utf-8"), blocks), encoding="utf-8")


def filled(text: str, blocks: dict[str, str]) -> str:
    """Return a document with new blocks. Raises KeyError for a name that is none."""

    def block(found: re.Match[str]) -> str:
        return f"{found[1]}\n{blocks[found[2]]}\n\n{found[3]}"

    return BLOCK.sub(block, text)
