"""Imaging: image bytes -> Radiograph, and what is doubtful about it. Next: inference."""
