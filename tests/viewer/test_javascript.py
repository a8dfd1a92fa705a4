"""The page's pure modules draw what the server draws."""

from colormap_tables import MODULE, module


def test_the_pages_colour_maps_are_the_servers() -> None:
    assert MODULE.read_text() == module(), "run tests/colormap_tables.py"
