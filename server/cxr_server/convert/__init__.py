"""Conversion: an upstream checkpoint -> bundle. Used by `commands` alone, never by serving."""
