"""Synthetic images of hands with exact labels."""
