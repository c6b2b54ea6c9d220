"""The list behind a figure: every page that counts users leads by this to exactly those whom it counted."""

from __future__ import annotations

from urllib.parse import urlencode

from app.fleet.queries import GroupCount


def hosts_at(group: GroupCount | None = None, /, standing: str = "", **filters: str | int | None) -> str:
    """The hosts of the users that a figure counts: those in the shares, in the group that the figure is about.

    `standing`: others than those in the shares. A filter of None is left out; an empty one says something.

    >>> hosts_at(pattern="venv-python")
    '/hosts?standing=counted&pattern=venv-python'
    >>> hosts_at(version="", standing="silent")
    '/hosts?standing=silent&version='
    """
    of_page = "trial" if group is not None and group.is_trial else "counted"
    chosen: dict[str, str | int | None] = {"standing": standing or of_page, "group": group.id if group else None}
    return f"/hosts?{urlencode({name: value for name, value in (chosen | filters).items() if value is not None})}"
