"""Scores of the exported product: the top layer, which alone may use runtime, data and metrics together."""
