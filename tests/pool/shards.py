"""Tar shards, written where a test needs them."""

from __future__ import annotations

import io
import json
import tarfile
from collections.abc import Mapping
from typing import Any

from tests.pool.images import corners, encoded


def tar_of(members: Mapping[str, Any], form: int = tarfile.PAX_FORMAT) -> bytes:
    """A tar of these files; a dict becomes json, None the test image."""
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w", format=form) as tar:
        for name, content in members.items():
            data = encoded(corners()) if content is None else content
            data = json.dumps(data).encode() if isinstance(data, dict) else data
            info = tarfile.TarInfo(name)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    return file.getvalue()
