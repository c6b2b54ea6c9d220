"""How values read: numbers, shares with their base, times, outcomes, roles. Pure; the templates' filters."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime

from markupsafe import Markup, escape


def number(value: int) -> str:
    """A whole number with thousands separated.

    >>> number(12480)
    '12,480'
    """
    return f"{value:,}"


def percent(part: int, base: int) -> str:
    r"""A share for reading. Only none is 0 % and only all is 100 %: a remainder never disappears by rounding.

    >>> [percent(*pair).replace("\u00a0", " ") for pair in ((41, 100), (1, 5000), (4999, 5000), (0, 7), (0, 0))]
    ['41 %', '< 1 %', '> 99 %', '0 %', '–']
    """
    if base <= 0:
        return "–"
    share = 100 * part / base
    if 0 < share < 1:
        return "< 1\u00a0%"
    if 99 < share < 100:
        return "> 99\u00a0%"
    return f"{share:.0f}\u00a0%"


def size(bytes_: int) -> str:
    """A file's size, with its unit.

    >>> size(182), size(40_000), size(2_345_678), size(8_000_000_000)
    ('182 bytes', '40 kB', '2.3 MB', '8,000.0 MB')
    """
    if bytes_ < 1000:
        return f"{bytes_} bytes"
    return f"{round(bytes_ / 1000)} kB" if bytes_ < 100_000 else f"{bytes_ / 1_000_000:,.1f} MB"


def heat_step(part: int, base: int) -> int:
    """The step of five of a share in the heat map, 0 when there is none: 1 up to 20 %, 5 above 80 %.

    >>> [heat_step(n, 100) for n in (0, 1, 20, 21, 80, 81, 100)]
    [0, 1, 1, 2, 4, 5, 5]
    """
    if base <= 0 or part <= 0:
        return 0
    return min(5, 1 + (100 * part - 1) // (20 * base))


def plural(count: int, one: str, many: str | None = None) -> str:
    """A count with its noun.

    >>> plural(1, "host"), plural(2480, "host"), plural(2, "policy", "policies")
    ('1 host', '2,480 hosts', '2 policies')
    """
    return f"{number(count)} {one if count == 1 else many or one + 's'}"


def relative(at: datetime, now: datetime | None = None) -> str:
    """How long ago, or until when, in one unit.

    >>> from datetime import timedelta
    >>> noon = datetime(2026, 1, 5, 12, tzinfo=UTC)
    >>> relative(noon - timedelta(minutes=3), noon), relative(noon - timedelta(days=2), noon)
    ('3 minutes ago', '2 days ago')
    >>> relative(noon + timedelta(hours=5), noon), relative(noon, noon)
    ('in 5 hours', 'just now')
    """
    delta_s = ((now or datetime.now(UTC)) - at).total_seconds()
    size_s = abs(delta_s)
    if size_s < 45:
        return "just now"
    for unit, length_s, limit_s in (("minute", 60, 45 * 60), ("hour", 3600, 22 * 3600), ("day", 86400, float("inf"))):
        if size_s < limit_s:
            count = max(1, round(size_s / length_s))
            words = plural(count, unit)
            return f"{words} ago" if delta_s > 0 else f"in {words}"
    raise AssertionError("the last limit is infinite")


def utc(at: datetime) -> str:
    """A time for the hover text and for print.

    >>> utc(datetime(2026, 1, 5, 12, 30, tzinfo=UTC))
    '2026-01-05 12:30:00 UTC'
    """
    return at.astimezone(UTC).strftime("%Y-%m-%d %H:%M:%S UTC")


def listed(words: Sequence[str], conjunction: str = "and") -> str:
    """A list as a sentence has it.

    >>> listed(["a"]), listed(["a", "b"]), listed(["a", "b", "c"])
    ('a', 'a and b', 'a, b and c')
    """
    if len(words) < 2:
        return "".join(words)
    return f"{', '.join(words[:-1])} {conjunction} {words[-1]}"


def shortened(text: str, length: int = 48) -> str:
    """A path or hash cut in the middle, where it says least.

    >>> shortened("abcdefghij", 7)
    'abc…hij'
    """
    if len(text) <= length:
        return text
    left = (length - 1) // 2
    return f"{text[:left]}…{text[-(length - 1 - left) :]}"


def ticked(text: str) -> Markup:
    """Text of the catalogue in which `backticks` mark what is typed.

    >>> ticked("run `uv <x>` now")
    Markup('run <code>uv &lt;x&gt;</code> now')
    """
    parts = text.split("`")
    if len(parts) % 2 == 0:
        return escape(text)
    return Markup("").join(
        Markup("<code>{}</code>").format(part) if index % 2 else escape(part) for index, part in enumerate(parts)
    )


def breakable(text: str) -> Markup:
    """Text that has no spaces, as an address or a path in a directory: its lines break after its own marks.

    >>> breakable("ada@example.com"), breakable("OU=Lab,DC=<x>")
    (Markup('ada@<wbr>example.com'), Markup('OU=Lab,<wbr>DC=&lt;x&gt;'))
    """
    return Markup("<wbr>").join(escape(part) for part in re.split(r"(?<=[@,/\\])(?=\w)", text))


_BROWSERS = (
    ("Edge", r"Edg\w*/(\d+)"),
    ("Firefox", r"Firefox/(\d+)"),
    ("Chrome", r"Chrom\w+/(\d+)"),
    ("Safari", r"Version/(\d+)"),
)
_SYSTEMS = ("Windows", "Android", "iPhone", "iPad", "Mac", "CrOS", "Linux")


def browser(sent: str | None) -> str:
    """What a browser says of itself, in the words of people; shortened where it is another program.

    >>> browser("Mozilla/5.0 (Windows NT 10.0; Win64; x64) Chrome/156.0.0.0 Safari/537.36 Edg/156.0.0.0")
    'Edge 156 on Windows'
    >>> browser("curl/8.14"), browser("")
    ('curl/8.14', 'Unknown browser')
    """
    for name, pattern in _BROWSERS:
        found = re.search(pattern, sent or "")
        if found:
            system = next((one for one in _SYSTEMS if one in (sent or "")), "")
            return f"{name} {found[1]}{f' on {system}' if system else ''}"
    return shortened(sent, 60) if sent else "Unknown browser"


_ENGINE_WORDS = {
    "applocker": "AppLocker",
    "srp": "Software Restriction Policies",
    "wdac": "App Control",
    "asr": "attack surface reduction",
    "antivirus": "an antivirus",
    "acl": "file rights",
    "other": "another engine",
    "unknown": "an engine that did not name itself",
}


def engine_words(engines: Iterable[str]) -> str:
    """Who refused, as a sentence has it.

    >>> engine_words(["applocker", "acl"])
    'AppLocker and file rights'
    """
    return listed([_ENGINE_WORDS.get(engine, engine) for engine in engines])
