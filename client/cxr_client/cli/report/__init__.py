"""Report: the answers to many images -> one HTML file that needs nothing else."""
