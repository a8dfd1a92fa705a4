"""Phantom: drawn chest radiographs with planted findings and exact masks, and their small model.

A phantom tests the system, as it does in a radiology department; it says nothing about patients.
The arrow: anatomy -> body (attenuation) -> findings (planted) -> draw (pixels) -> dataset -> train.
"""
