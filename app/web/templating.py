"""Jinja2 as the pages use it: autoescape, undefined names are errors, a fragment is a named block of its page."""

from __future__ import annotations

from datetime import datetime
from functools import cache
from typing import Any
from urllib.parse import urlencode

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from jinja2_fragments import render_block
from starlette.requests import Request
from starlette.responses import HTMLResponse

from app.accounts.roles import Permission
from app.settings import bundled
from app.web import words
from app.web.assets import static_url
from app.web.glossary import GLOSSARY
from app.web.lists import hosts_at
from app.web.navigation import menu_for
from app.web.titles import titled


@cache
def environment() -> Environment:
    """The one template environment of the process."""
    made = Environment(
        loader=FileSystemLoader(bundled("templates")),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    for spoken in (
        words.number,
        words.percent,
        words.heat_step,
        words.plural,
        words.relative,
        words.utc,
        words.listed,
        words.shortened,
        words.ticked,
        words.breakable,
        words.size,
        words.browser,
        titled,
    ):
        made.filters[spoken.__name__] = spoken
    made.globals |= {
        "static_url": static_url,
        "percent": words.percent,
        "plural": words.plural,
        "heat_step": words.heat_step,
        "hosts_at": hosts_at,
        "engine_words": words.engine_words,
        "menu_for": menu_for,
        "Permission": Permission,
        "glossary": GLOSSARY,
    }
    # In globals, because a block rendered alone does not see its page's imports.
    made.globals["ui"] = made.get_template("macros/ui.html").module
    made.globals["work_macros"] = made.get_template("macros/work.html").module
    made.globals["state"] = made.get_template("macros/state.html").module
    return made


def wants_fragment(request: Request) -> bool:
    """Whether htmx asks for a part of the page (a boosted link or a restored history entry wants it whole)."""
    headers = request.headers
    return (
        headers.get("hx-request") == "true"
        and headers.get("hx-boosted") != "true"
        and headers.get("hx-history-restore-request") != "true"
    )


def wants_main(request: Request) -> bool:
    """Whether htmx asks for what stands in the frame: by a filter, tab or pager that without it is a plain link."""
    headers = request.headers
    return (
        headers.get("hx-request") == "true"
        and headers.get("hx-target") == "main"
        and headers.get("hx-history-restore-request") != "true"
    )


def render(
    request: Request,
    template: str,
    /,
    *,
    fragment: str | None = None,
    status: int = 200,
    address: str | None = None,
    **context: Any,
) -> HTMLResponse:
    """A page, or to htmx only the block `fragment` of it, or what is in its frame. `context`: what the template needs.

    `address`: what the browser's address bar shall say after a fragment, without the form's empty fields.
    """
    values = {
        "request": request,
        "person": getattr(request.state, "person", None),
        "is_made_fleet": getattr(request.state, "is_made_fleet", False),
        "unattested_fleet": getattr(request.state, "unattested", None),
        "rendered_at": _now(),
        "only_main": wants_main(request),
        **context,
    }
    if fragment is not None and wants_fragment(request) and not wants_main(request):
        body = render_block(environment(), template, fragment, values)
    else:
        body = environment().get_template(template).render(values)
    headers = {"Vary": "HX-Request, HX-Target"}
    if address is not None and (wants_fragment(request) or wants_main(request)):
        headers["HX-Push-Url"] = address
    return HTMLResponse(body, status_code=status, headers=headers)


def address(path: str, **filters: str) -> str:
    """A path with those filters that are set.

    >>> address("/patterns", q="a b", place="")
    '/patterns?q=a+b'
    """
    query = urlencode({name: value for name, value in filters.items() if value})
    return f"{path}?{query}" if query else path


def _now() -> datetime:
    return datetime.now().astimezone()
