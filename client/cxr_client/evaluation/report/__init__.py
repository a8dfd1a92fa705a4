"""Report: an evaluation, as one HTML page with inline SVG and no script."""
