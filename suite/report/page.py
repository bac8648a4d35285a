"""A template with its styles and its script as one HTML file that needs no other file."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Sequence
from importlib.resources import files
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from suite.report.formatting import one_line


def render_page(
    template: str,
    *,
    styles: Sequence[str],
    script: str,
    more_scripts: Sequence[str] = (),
    **values: Any,
) -> str:
    """Render a page with the named files of the folder `html` written into it.

    The page's policy allows only its own script, by hash, so text that slipped through the
    escaping still could not run or load anything.
    """
    folder = files("suite.report") / "html"
    scripts = [(folder / name).read_text(encoding="utf-8") for name in (script, *more_scripts)]
    code = "\n".join(scripts)
    rules = [(folder / name).read_text(encoding="utf-8") for name in styles]
    digest = hashlib.sha256(code.encode()).digest()
    environment = Environment(
        loader=PackageLoader("suite.report", "html"),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
        undefined=StrictUndefined,
    )
    environment.filters["one_line"] = one_line
    return environment.get_template(template).render(
        style=Markup("\n".join(rules)),
        script=Markup(code),
        script_hash=base64.b64encode(digest).decode(),
        **values,
    )
