"""Explanation: Evidence -> heat map, peak, regions and picture."""
