"""What the config's rooms have in common."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated, Any
from urllib.parse import unquote, urlsplit

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

from poolscout.errors import ConfigError

Weight = Annotated[float, Field(ge=0, le=1e6)]


def is_url(text: str) -> bool:
    """Whether `text` names something at a URL, not a path of this machine; `file:///…` is a path."""
    return re.match(r"[A-Za-z][A-Za-z0-9+.-]+://", text) is not None and not text.lower().startswith("file://")


def locate(text: str, base: Path = Path()) -> Path | str:
    """A URL as it is; anything else as an absolute path, a relative one starting at `base`.

    Raises:
        ConfigError: no file system has such a path.
    """
    if is_url(text):
        return text
    try:
        return (base / (unquote(urlsplit(text).path) if text.lower().startswith("file:///") else text)).resolve()
    except (ValueError, RuntimeError) as error:  # NUL, what UTF-8 cannot hold, links in a circle
        raise ConfigError(
            f"{text!a}: not a path", got=str(error), expected="the path of a file or folder, or a URL",
            fix="check the path",
        ) from error  # fmt: skip


def _url_or_path(value: Any) -> Any:
    return Path(value) if isinstance(value, str) and not is_url(value) else value


Location = Annotated[Path | str, BeforeValidator(_url_or_path)]  # a str is a URL


class Room(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)
