"""Localisation: boxes and masks of readers against the evidence of a run."""
