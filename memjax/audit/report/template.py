"""Fill the template of a page: one HTML document that loads nothing."""

import datetime
from pathlib import Path
from typing import Any

import jinja2
from markupsafe import Markup

from memjax import __version__
from memjax.audit.report import numerals

_FOLDER = Path(__file__).parent


def fill(name: str, *, folder: Path = _FOLDER, **shown: Any) -> str:
    """Return the page made from the template of this name; every value is escaped, a missing one is an error.

    A template of another folder may extend and include those that are here.
    """
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader([folder, _FOLDER]),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
    )
    environment.filters |= {"name": numerals.name, "count": numerals.count, "score": numerals.score}
    return environment.get_template(name).render(
        css=Markup((_FOLDER / "report.css").read_text(encoding="utf-8")),
        program=f"memjax {__version__}",
        date=datetime.date.today().isoformat(),
        **shown,
    )
