"""Labels: label files -> `LabelSet`. One module for each format, and a registry of them."""
