"""Content as HTML: whole in itself, or with its script, style and data fetched from a server."""

import json
from functools import cache
from importlib.resources import files
from typing import Any

from jinja2 import Environment

from safesweep.analysis.page.content import Content

ASSETS = {
    "page.js": "text/javascript; charset=utf-8",
    "page.css": "text/css; charset=utf-8",
    "plotly.js": "text/javascript; charset=utf-8",
}
"""Files that pages use, with their types."""
_FILES = {"plotly.js": "plotly-basic.min.js"}
"""Those that are called otherwise on a disk. Of Plotly it is the bundle with lines, points and bars
alone, a quarter of the whole one; its licence lies beside it."""
REFRESH_SECONDS = 5.0
"""Between two times that a page asks for what is new."""


def whole_page(title: str, content: Content) -> str:
    """A page that needs nothing beside it: charts, style and data are in it, and it is forbidden to
    fetch anything."""
    return _filled(
        title=title,
        data=as_script_data(content),
        style=asset("page.css"),
        script=_within_script(asset("page.js")),
        library=_within_script(asset("plotly.js")),
    )


def served_page(
    title: str,
    data_url: str,
    status_url: str | None = None,
    *,
    charts: bool = True,
    refresh_seconds: float = REFRESH_SECONDS,
) -> str:
    """A page that fetches its script, style and data from the server that it came from.

    Args:
        data_url: of its content.
        status_url: of how a sweep stands, asked for again and again.
        charts: whether it draws any, for which it fetches the charts' library.
        refresh_seconds: between two times that it asks.
    """
    return _filled(
        title=title,
        data_url=data_url,
        status_url=status_url,
        charts=charts,
        refresh_seconds=refresh_seconds,
        data=None,
    )


def message_page(title: str, message: str) -> str:
    """A page that says one thing."""
    return _filled(title=title, message=message, data=None)


def as_script_data(content: Any) -> str:
    """JSON that may stand within a script element, whatever text is in it."""
    text = json.dumps(content, separators=(",", ":"), allow_nan=False)
    for sign in "<>&\u2028\u2029":
        text = text.replace(sign, f"\\u{ord(sign):04x}")
    return text


@cache
def asset(name: str) -> str:
    """A file of `ASSETS`."""
    place = files("safesweep.analysis.page").joinpath(_FILES.get(name, name))
    return place.read_text(encoding="utf-8")


def _within_script(text: str) -> str:
    """A script so written that it does not end the element that it stands in."""
    return text.replace("</script", "<\\/script")


def _filled(**values: Any) -> str:
    """The template with these values; what is not marked as safe in it is escaped."""
    place = files("safesweep.analysis.page").joinpath("page.html.jinja")
    environment = Environment(autoescape=True, trim_blocks=True, lstrip_blocks=True)
    return environment.from_string(place.read_text(encoding="utf-8")).render(**values)
