"""Scoring functions, one file each; the file's function is known by its name."""
