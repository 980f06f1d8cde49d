"""Reductions over map positions, one file each."""
