"""Procedural street clips: the embedded data set. See docs/sandbox.md."""

from poolscout.sandbox.render import Frame, render_clip
from poolscout.sandbox.settings import CLASSES, SETTINGS, District, StreetSettings
from poolscout.sandbox.write import SandboxSummary, write_sandbox

__all__ = [
    "CLASSES",
    "SETTINGS",
    "District",
    "Frame",
    "SandboxSummary",
    "StreetSettings",
    "render_clip",
    "write_sandbox",
]
