"""`poolscout doctor`: what this machine has, and what is missing."""

from __future__ import annotations

import os
import shutil
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated, Any

import typer

from poolscout.cli.console import JsonOption, show


def doctor(
    folder: Annotated[Path, typer.Option(help="Where runs will be written.")] = Path(),
    as_json: JsonOption = False,
) -> None:
    """Tell what this machine has, what that means for a run, and what is missing.

    Example: `poolscout doctor --folder runs`
    """
    show(examine(folder), as_json, title="poolscout on this machine")


def examine(folder: Path) -> dict[str, Any]:
    """The findings, name → words."""
    import torch

    from poolscout.assemble import versions
    from poolscout.detector.member import use_bf16

    found: dict[str, Any] = versions()
    found["cores"] = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    if hasattr(os, "sysconf"):
        found["memory"] = f"{os.sysconf('SC_PAGE_SIZE') * os.sysconf('SC_PHYS_PAGES') / 2**30:.1f} GiB"
    found["device"] = torch.cuda.get_device_name() if torch.cuda.is_available() else "cpu (no CUDA device seen)"
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    found["bf16"] = "native" if use_bf16("auto", device) else "not native here: fp32 is used"
    existing = next(p for p in (folder.absolute(), *folder.absolute().parents) if p.exists())
    found["free disk"] = f"{shutil.disk_usage(existing).free / 2**30:.1f} GiB at {existing}"
    found["writable"] = "yes" if os.access(existing, os.W_OK) else f"NO: {existing} cannot be written"
    found["torch.compile"] = "can be used" if shutil.which("cc") or shutil.which("gcc") else "needs a C compiler"
    found["timm"] = (
        "present" if find_spec("timm") else "absent (`poolscout embed` with more than vgg16 and resnet50 uses it)"
    )
    found["pycocotools"] = "present" if find_spec("pycocotools") else "absent (only the tests use it)"
    return found
