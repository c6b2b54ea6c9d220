"""What a pattern is called: people read names, and ids stand where somebody types one."""

from __future__ import annotations

from markupsafe import Markup

from agent.catalogue import load as load_catalogue
from app.web.words import ticked


def titled(pattern_id: str) -> Markup:
    """The name of a pattern; its id where the catalogue in use has no such one.

    >>> titled("self-update-installer-ps1"), titled("<gone>")
    (Markup('Installer script of <code>uv self update</code>'), Markup('&lt;gone&gt;'))
    """
    return ticked(_title_of(pattern_id))


def plainly_titled(pattern_id: str) -> str:
    """The same where only text can stand.

    >>> plainly_titled("self-update-installer-ps1")
    'Installer script of uv self update'
    """
    return _title_of(pattern_id).replace("`", "")


def _title_of(pattern_id: str) -> str:
    return next((one.title for one in load_catalogue().patterns if one.id == pattern_id), pattern_id)
