"""Report: the answers to many images -> one self-contained HTML file."""
