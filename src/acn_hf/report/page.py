"""The record to one HTML file that needs nothing else: no network, and no acn_hf."""

import base64
import hashlib
import json
import os
from typing import Any

from markupsafe import Markup

from ..support.html import file_of, templates_of
from ..support.records import write_text
from . import run_view, view
from .charts import charts_of
from .record import ReportRecord
from .run_charts import charts_of_run
from .run_log import RunLog
from .vega import Chart, plotting, script_of_vega


def render_report(record: ReportRecord | RunLog) -> str:
    """Return the page of a record, or of the log of a run, as HTML.

    Whatever a text of the data, a label or a name holds is shown as it is written and does nothing: the template
    escapes it, the script puts it in as text, and the page allows no script but its own two, by their digests.

    Args:
        record (`ReportRecord` or `RunLog`): What it shows.

    Raises:
        ImportError: altair or vl-convert is missing.
        ValueError: The record holds a number that is none, which JSON has no word for.
    """
    if isinstance(record, RunLog):
        charts = charts_of_run(record)
        data = run_view.script_data(record, charts)
        return _render("run", charts, data, run=record, view=run_view, rows=data["measurements"])
    charts = charts_of(record)
    data = view.script_data(record, charts)
    return _render("page", charts, data, record=record, figures=record.figures, view=view, rows=data["depths"])


def write_report(path: str | os.PathLike, record: ReportRecord | RunLog) -> None:
    """Write the page of a record, or of the log of a run, to one HTML file, which is either complete or not there.

    Args:
        path (`str` or `os.PathLike`): The file.
        record (`ReportRecord` or `RunLog`): What it shows.

    Raises:
        ImportError: altair or vl-convert is missing.
        OSError: It cannot be written.
        ValueError: The record holds a number that is none.
    """
    write_text(path, render_report(record))


def _render(name: str, charts: dict[str, Chart], data: dict[str, Any], **shown: Any) -> str:
    """Return a page by its template and its script."""
    json.dumps(data, allow_nan=False)  # what a browser cannot read is refused here
    room = __package__
    scripts = [Markup(script_of_vega()), Markup(file_of(room, "base.js") + file_of(room, f"{name}.js"))]
    return templates_of(room).get_template(f"{name}.html.jinja").render(
        charts=charts,
        data=data,
        style=Markup(file_of(room, "page.css")),
        scripts=scripts,
        digests=[_digest(script) for script in scripts],
        **shown,
    )  # fmt: skip


def check_packages() -> None:
    """Raise `ImportError` if a page could not be made, before anything takes long."""
    plotting()


def _digest(script: str) -> str:
    """Return the digest by which the page allows a script."""
    return f"'sha256-{base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()}'"
