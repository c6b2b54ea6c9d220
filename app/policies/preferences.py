"""Environment variables as Group Policy preferences, as the editor itself writes them.

source: [MS-GPPREF] 2.2.1.5 (EnvironmentVariables), and a file that GPMC wrote
"""

from __future__ import annotations

import uuid
from collections.abc import Iterable
from datetime import UTC, datetime
from xml.sax.saxutils import quoteattr

from app.applocker.identify import NAMESPACE
from app.policies.drafts import Setting
from app.policies.reach import shown

_COLLECTION = "{BF141A63-327B-438a-B9BF-2C188F13B7AD}"
_ITEM = "{78570023-8373-4a19-BA80-2F150738EA19}"


def render_preferences(settings: Iterable[Setting], *, changed_at: datetime) -> str:
    """The file's text. The same settings have the same ids; `changed_at` is when they were approved."""
    changed = changed_at.astimezone(UTC).strftime("%Y-%m-%d %H:%M:%S")
    items = []
    for one in sorted(settings, key=lambda one: one.name):
        value = value_on_disk(one)
        uid = "{" + str(uuid.uuid5(NAMESPACE, f"environment\n{one.name}\n{value}")).upper() + "}"
        status = quoteattr(f"{one.name} = {value}")
        items.append(
            f'<EnvironmentVariable clsid="{_ITEM}" name={quoteattr(one.name)} status={status} image="2" '
            f'changed="{changed}" uid="{uid}"><Properties action="U" name={quoteattr(one.name)} '
            f'value={quoteattr(value)} user="0" partial="0"/></EnvironmentVariable>'
        )
    inner = "\r\n\t".join(items)
    return (
        '<?xml version="1.0" encoding="utf-8"?>\r\n'
        f'<EnvironmentVariables clsid="{_COLLECTION}">{inner}\r\n</EnvironmentVariables>\r\n'
    )


def value_on_disk(setting: Setting) -> str:
    """A setting's value with folders written out: preferences have variables of their own behind percent signs."""
    return shown(setting.value)
