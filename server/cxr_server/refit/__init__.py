"""Refit: an evaluation of a bundle -> a bundle with other operating points and a calibration.

evaluation.json -> films -> criteria, calibration -> fit -> write. Used by commands alone.
"""
