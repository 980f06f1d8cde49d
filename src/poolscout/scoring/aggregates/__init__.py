"""Reductions of positions or boxes to one figure per image and class, one file each."""
