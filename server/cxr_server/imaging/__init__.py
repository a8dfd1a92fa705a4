"""Imaging: image bytes -> Radiograph and its input warnings. Next: inference."""
