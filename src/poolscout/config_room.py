"""What the config's rooms have in common, and how plain values become one."""

from __future__ import annotations

import re
import reprlib
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar, get_args
from urllib.parse import unquote, urlsplit

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, ValidationError
from pydantic_core import ErrorDetails

from poolscout.errors import ConfigError, nearest, some

_short = reprlib.Repr()  # of a value that may hold itself, or copies of copies
_short.maxstring = _short.maxother = 300

MOST_OTHERS = 4  # problems that are told beside the first
Weight = Annotated[float, Field(ge=0, le=1e6)]


def _differ(names: tuple[str, ...]) -> tuple[str, ...]:
    if len(set(names)) != len(names):
        raise ValueError(f"each class once; got {list(names)}")
    return names


Classes = Annotated[tuple[str, ...], AfterValidator(_differ)]


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


def _switch(value: Any) -> Any:
    """YAML reads a bare on or off as true or false."""
    return {True: "on", False: "off"}[value] if isinstance(value, bool) else value


Switch = Annotated[Literal["auto", "on", "off"], BeforeValidator(_switch)]


class Room(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


Checked = TypeVar("Checked", bound=Room)


def validated(model: type[Checked], values: Any, where: str) -> Checked:
    """Plain values as a room.

    Raises:
        ConfigError: names the key, what was found and what was expected.
    """
    try:
        return model.model_validate(values)
    except ValidationError as error:
        raise _config_error(error, where, model) from error


def _config_error(error: ValidationError, where: str, root: type[Room]) -> ConfigError:
    # A misspelt key is told before what is missing because of it.
    first, *others = sorted(error.errors(), key=lambda problem: problem["type"] != "extra_forbidden")
    key = _dotted(first)
    others = [other for other in others if other["loc"] != first["loc"][: len(other["loc"])]]  # not what holds it
    more = "; ".join(f"{_dotted(other)}: {_wanted(other, root)}" for other in others[:MOST_OTHERS])
    more += f" … and {len(others) - MOST_OTHERS} more" if len(others) > MOST_OTHERS else ""
    more = f" (also {more})" if more else ""
    if first["type"] == "extra_forbidden":
        known = sorted(_keys_of(first["loc"][:-1], root))
        guess = nearest(str(first["loc"][-1]), known)
        return ConfigError(
            f"{where}: no such key {key!r}{more}", got=first["loc"][-1], expected=", ".join(known),
            fix=guess or "remove it, or see docs/config.md",
        )  # fmt: skip
    got = "nothing" if first["type"] == "missing" else _shown(first.get("input"))
    return ConfigError(f"{where}: {key}{more}", got=got, expected=_wanted(first, root), fix="see docs/config.md")


def _dotted(problem: ErrorDetails) -> str:
    return ".".join(str(part) for part in problem["loc"]) or "config"


def _wanted(problem: ErrorDetails, root: type[Room]) -> str:
    """What would have been right."""
    if problem["type"] == "extra_forbidden":
        return "no such key"
    if problem["type"] == "model_type":
        keys = _keys_of(problem["loc"], root)
        return f"a section with {'keys such as ' + some(keys, 4) if keys else 'keys'}"
    return problem["msg"].removeprefix("Value error, ")


def _shown(value: Any) -> str:
    try:
        return _short.repr(value)
    except ValueError:  # more digits than Python writes
        return "a number of thousands of digits"


def _keys_of(location: tuple[int | str, ...], root: type[Room]) -> list[str]:
    model: Any = root
    for part in location:
        field = getattr(model, "model_fields", {}).get(part)
        model = field.annotation if field is not None else next(iter(get_args(model)), model)  # of a tuple's, its kind
    return list(getattr(model, "model_fields", {}))
