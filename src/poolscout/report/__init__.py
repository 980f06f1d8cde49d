"""A run as one page to read: what was gained, what was paid, and which images were picked."""

from poolscout.report.page import write_report

__all__ = ["write_report"]
