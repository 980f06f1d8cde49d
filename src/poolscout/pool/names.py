"""Names that other people gave to images: which can be stored, and which would lead out of where images lie."""

from __future__ import annotations

import re
from pathlib import PurePosixPath

SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".bmp", ".webp", ".tif", ".tiff", ".gif", ".ppm", ".pgm"})

UNSAFE = "unsafe name"  # the quarantine's reason

_UNSTORABLE = re.compile(r"[\x00-\x1f\x7f\ud800-\udfff]")


def is_image_name(name: str) -> bool:
    """Whether a name ends as an image's does, and is not hidden."""
    last = PurePosixPath(name)
    return last.suffix.lower() in SUFFIXES and not last.name.startswith(".")


def unstorable(name: str) -> str | None:
    """What is wrong with a name that no table can hold; None for others."""
    return "control characters, or not UTF-8" if _UNSTORABLE.search(name) else None


def leads_out(name: str) -> str | None:
    """What is wrong with a relative name that leaves its folder, or cannot be stored; None for others."""
    if wrong := unstorable(name):
        return wrong
    depth = 0
    for part in re.split(r"[/\\]", name):
        depth += {"": 0, ".": 0, "..": -1}.get(part, 1)
        if depth < 0:
            return "leaves the folder (..)"
    return None


def unsafe_member(name: str) -> str | None:
    """What is wrong with a member's name of an archive; None for plain relative ones."""
    if name.startswith(("/", "\\")) or re.match(r"[A-Za-z]:", name):
        return "an absolute path"
    if ".." in re.split(r"[/\\]", name):
        return "leaves the folder (..)"
    return unstorable(name) or (None if name.strip("./") else "empty")


def shown(name: str) -> str:
    """The name as a table can hold it: what it cannot is written as an escape."""
    return _UNSTORABLE.sub(lambda found: ascii(found[0])[1:-1], name)


def last_number(stem: str) -> int | None:
    """The frame number in a name such as `Town01_001020`: its last run of digits."""
    runs = re.findall(r"[0-9]+", stem)
    return int(runs[-1]) if runs and len(runs[-1]) <= 18 else None
