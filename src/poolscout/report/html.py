"""What all pages share: the template engine, style, script and Vega, all inline, so that a page opens offline."""

from __future__ import annotations

from functools import cache
from typing import Any

import altair as alt
import jinja2
import vl_convert
from markupsafe import Markup


def environment(*packages: str) -> jinja2.Environment:
    """The templates of these packages, then those of the report; an undefined name is an error.

    Every template may use `style`, `script` and the filters `figure` and `count`.
    """
    names = [*packages, "poolscout.report"]
    templates = jinja2.Environment(
        loader=jinja2.ChoiceLoader([jinja2.PackageLoader(name) for name in names]),
        autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True,
    )  # fmt: skip
    templates.filters |= {"figure": figure, "count": count}
    templates.globals |= {"style": source(templates, "style.css"), "script": source(templates, "page.js")}
    return templates


def source(templates: jinja2.Environment, name: str) -> Markup:
    """A file beside the templates, as it is."""
    assert templates.loader is not None
    return Markup(templates.loader.get_source(templates, name)[0])


@cache  # seconds of a JavaScript bundler, for always the same text
def vega_library() -> Markup:
    """Vega, Vega-Lite and Vega-Embed as one script, for an inline element."""
    library: str = vl_convert.javascript_bundle()  # type: ignore[call-arg]  # its stub forgets the default
    return Markup(library.replace("</script", "<\\/script"))  # the same to JavaScript, no end of the element to HTML


def chart_spec(chart: alt.Chart | alt.LayerChart, height: int) -> dict[str, Any]:
    """A chart as wide as its place on the page; `height` in px. Colours and type come from the page's script."""
    spec = chart.properties(
        width="container", height=height, autosize=alt.AutoSizeParams(type="fit", contains="padding")
    )
    values: dict[str, Any] = spec.to_dict()
    values.pop("config", None)
    return values


def count(n: int | None) -> str:
    return "–" if n is None else f"{n:,}"


def figure(value: float | None, digits: int = 3) -> str:
    return "–" if value is None else f"{value:.{digits}f}"
