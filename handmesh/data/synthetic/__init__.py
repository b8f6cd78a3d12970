"""Synthetic pictures of hands with exact labels."""
