"""The curve of a page as a picture, for where a page cannot be shown."""

import json
import re

from ..support.html import file_of
from .metric_chart import metric_chart
from .record import ReportRecord
from .vega import plotting, version_of_vegalite

WIDTH, SCALE = 640, 2
"""In pixels, and how many of the picture's there are to one."""


def still_picture(record: ReportRecord) -> bytes:
    """Return the metric against depth, as the page first shows it in light colours, as a PNG.

    Args:
        record (`ReportRecord`): What the page shows.

    Raises:
        ImportError: altair or vl-convert is missing.
    """
    _, vl_convert = plotting()
    text = json.dumps(metric_chart(record))
    for name, colour in _light_colours().items():
        text = text.replace(f"var(--{name})", colour)
    chart = json.loads(text) | {"width": WIDTH, "title": record.figures.profile.metric}
    chart["config"] |= {"background": "white", "font": "sans-serif", "title": {"anchor": "start"}}
    return vl_convert.vegalite_to_png(chart, vl_version=version_of_vegalite(), scale=SCALE)


def _light_colours() -> dict[str, str]:
    """Return the colours of the style sheet by their names; those of light pages stand first."""
    return dict(re.findall(r"--([\w-]+): (#\w+);", file_of(__package__, "page.css").partition("@media")[0]))
