"""Puts measured figures into docs/scale.md: its table, and the pictures beside it.

Usage: make bench ONLY="ingest scale storm connections trial pages" FULL=1 > figures.jsonl
       .venv/bin/python tools/scale_report.py figures.jsonl [NOTE]

Figures of an earlier run stay where the new one has none (docs/measured.jsonl holds the newest of each).
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
PAGE = ROOT / "docs/scale.md"
KEPT = ROOT / "docs/measured.jsonl"
PICTURE = ROOT / "docs/images/scale.svg"
BEGIN, END = "<!-- measured: begin -->", "<!-- measured: end -->"

Figure = dict[str, Any]

ROWS = (
    ("CPU of server and database for a report that says nothing new, saturated", "ingest_unchanged"),
    ("the same at 300 reports a second", "ingest_unchanged_at_300"),
    ("the same over a new connection (without TLS)", "ingest_unchanged_new_connection"),
    ("the same where no report tells events or uses of rules", "ingest_unchanged_telling_nothing"),
    ("CPU for a report with known facts", "ingest_known"),
    ("the same at 300 reports a second", "ingest_known_at_300"),
    ("the same over a new connection", "ingest_known_new_connection"),
    ("CPU for a report with 40 probes that nobody else has", "ingest_new"),
    ("the same at 300 reports a second", "ingest_new_at_300"),
    ("the same over a new connection", "ingest_new_new_connection"),
    ("nothing new, as many times an ASGI function that reads the body", "ingest_unchanged_cost_of_bare"),
    ("nothing new, as many times a FastAPI endpoint that does", "ingest_unchanged_cost_of_fastapi"),
    ("nothing new, so many times cheaper than FastAPI with an ORM", "ingest_unchanged_faster_than_obvious"),
    ("known facts, so many times cheaper", "ingest_known_faster_than_obvious"),
    ("40 new probes, so many times cheaper", "ingest_new_faster_than_obvious"),
    ("1,000 reports/s from all over the fleet, a checkpoint inside: 99 % answered within", "scale_1000_p99"),
    ("2,000 reports/s: 99 % answered within", "scale_2000_p99"),
    ("1,000 reports/s with `commit_delay = 5000`: 99 % within", "scale_1000_commit_delay_p99"),
    ("hosts with a report not recorded exactly once, at 1,000 reports/s", "scale_1000_not_exactly_once"),
    ("the same at 2,000 reports/s", "scale_2000_not_exactly_once"),
    ("the same at 1,000 reports/s with `commit_delay = 5000`", "scale_1000_commit_delay_not_exactly_once"),
    ("reports that brought sets nobody had, at 2,000 reports/s", "scale_2000_new_sets"),
    ("hosts and days of which a sighting or use of a rule was lost or counted twice", "scale_told_wrongly"),
    ("hosts of which another state is recorded than they were last acknowledged", "scale_wrong_state"),
    ("write-ahead log at 1,000 reports/s", "scale_1000_journal"),
    ("write-ahead log at 2,000 reports/s", "scale_2000_journal"),
    ("updates of `pulse` in place (HOT)", "scale_2000_in_place"),
    ("counts wrong after all of it", "scale_wrong_counts"),
    ("the database afterwards", "scale_database"),
    ("a policy reaches a group, each host sends the new texts: reports/s taken", "storm_rate"),
    ("deadlocks meanwhile", "storm_deadlocks"),
    ("a crowd of agents, each over a new connection: the server's connections at most", "connections_open"),
    ("how often one was answered 503 and came back", "connections_turned_away"),
    ("all of them taken after", "connections_drained"),
    ("the most memory of the server process meanwhile", "connections_memory"),
    ("SQLite, `synchronous=FULL`, one process", "trial_rate"),
    ("a made fleet in the database after", "fleet_made"),
)


def main(arguments: list[str]) -> int:
    """Exit code 2: no file of figures."""
    if not arguments:
        print(__doc__, file=sys.stderr)
        return 2
    figures = keep(read(Path(arguments[0])))
    note = arguments[1] if len(arguments) > 1 else ""
    text = PAGE.read_text()
    before, rest = text.split(BEGIN)
    after = rest.split(END)[1]
    PAGE.write_text(f"{before}{BEGIN}\n{table(figures, note)}\n{END}{after}")
    PICTURE.write_text(draw(figures))
    return 0


def read(path: Path) -> list[Figure]:
    return [json.loads(line) for line in path.read_text().splitlines() if line.startswith("{")] if path.exists() else []


def keep(new: list[Figure]) -> list[Figure]:
    """The new figures, and of the kept ones those that were not measured anew: pages by fleet, as some may be gone."""
    fleets = {(one["hosts"], one["sets"]) for one in new if one["name"] == "page_sql_p95"}
    older = [one for one in read(KEPT) if "page" not in one or (one.get("hosts"), one.get("sets")) not in fleets]
    newest = {key(one): one for one in [*older, *new]}
    kept = [newest[name] for name in sorted(newest)]
    KEPT.write_text("".join(json.dumps(one, ensure_ascii=False) + "\n" for one in kept))
    return kept


def key(one: Figure) -> tuple[str, ...]:
    return tuple(str(one.get(part, "")) for part in ("name", "hosts", "sets", "page", "variants"))


def table(figures: Sequence[Figure], note: str) -> str:
    named = {one["name"]: one for one in figures if one["name"] != "fleet_made"}
    made = [one for one in figures if one["name"] == "fleet_made" and one.get("profile") == "diverse"]
    if made:
        named["fleet_made"] = max(made, key=lambda one: one["hosts"]) | {"target": 90.0}
    lines = [*([note, ""] if note else []), "| what | measured | target |", "|---|---|---|"]
    for text, name in ROWS:
        one = named.get(name)
        if one is None:
            lines.append(f"| {text} | not measured | |")
            continue
        value = one["ratio"] if "ratio" in one else one["value"]
        unit = "×" if "ratio" in one else one["unit"]
        size = f" ({one['hosts']:,} hosts)" if one.get("hosts") else ""
        lines.append(f"| {text}{size} | {show(value)} {unit} | {bound(one)} |")
    lines += ["", *pages(figures)]
    return "\n".join(lines)


def bound(one: Figure) -> str:
    target = one.get("target")
    if target is None:
        return ""
    value = one["ratio"] if "ratio" in one else one["value"]
    at_least = "faster_than" in one["name"] or one["name"] in ("storm_rate", "trial_rate") or "in_place" in one["name"]
    if "bound" in one:  # since figures say it themselves
        at_least = one["bound"] == "least"
    held = value >= target if at_least else value <= target
    return f"{'≥' if at_least else '≤'} {show(target)}{'' if held else ', **missed**'}"


def pages(figures: Sequence[Figure]) -> list[str]:
    """A row per fleet: the slowest page of each kind."""
    sizes = sorted({(one["hosts"], one["sets"]) for one in figures if one["name"] == "page_sql_p95"})
    if not sizes:
        return ["Pages: not measured."]
    lines = [
        "| hosts | distinct sets of probes | overview, SQL p95 | heat map, SQL p95 | slowest other page, SQL p95 "
        "| slowest host list | slowest first byte, p95 |",
        "|---|---|---|---|---|---|---|",
    ]
    for hosts, sets in sizes:
        here = [one for one in figures if one.get("hosts") == hosts and one.get("sets") == sets]
        sql = {one["page"]: one["value"] for one in here if one["name"] == "page_sql_p95"}
        first = {one["page"]: one["value"] for one in here if one["name"] == "page_first_byte_p95"}
        others = {page: ms for page, ms in sql.items() if page not in ("/", HEAT_MAP)}
        lists = [one for one in here if one["name"] == "host_list_worst"]
        worst = f"{show(lists[0]['value'])} ms (`{lists[0]['which']}`)" if lists else ""
        lines.append(
            f"| {hosts:,} | {sets:,} | {show(sql.get('/', 0))} ms | {show(sql.get(HEAT_MAP, 0))} ms "
            f"| {slowest(others)} | {worst} | {slowest(first)} |"
        )
    return lines


def slowest(values: dict[str, float]) -> str:
    page, value = max(values.items(), key=lambda item: item[1], default=("", 0.0))
    return f"{show(value)} ms (`{page}`)"


def show(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 or value == int(value) else f"{value:.3g}"


HEAT_MAP = "/api/v1/heat-map"
LINES = (("/", "overview", "#0b6bcb"), (HEAT_MAP, "heat map", "#b5460f"), ("/hosts", "hosts", "#2d7a32"))
SLOWEST = ("", "slowest page", "#6e40c9")
WIDTH, HEIGHT, LEFT, TOP = 420, 240, 46, 40
LEAST_TOP_MS = 60.0


def draw(figures: Sequence[Figure]) -> str:
    """Two panels: SQL time by hosts (10,000 sets), and by sets (1,000,000 hosts)."""
    sql = [one for one in figures if one["name"] == "page_sql_p95"]
    by_hosts = [one for one in sql if one["sets"] == 10_000]
    by_sets = [one for one in sql if one["hosts"] == 1_000_000]
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {2 * WIDTH} {HEIGHT + 90}" role="img" '
        f'font-family="system-ui, sans-serif" font-size="12" fill="#24292f">'
        f"<title>SQL time of pages by hosts and by distinct sets</title>"
        f'<rect width="100%" height="100%" fill="#ffffff"/>'
        f"{panel(0, 'hosts, with 10,000 distinct sets', by_hosts, 'hosts', (10_000, 100_000, 1_000_000))}"
        f"{panel(WIDTH, 'distinct sets, with 1,000,000 hosts', by_sets, 'sets', (1_000, 10_000, 100_000))}"
        f"</svg>\n"
    )


def panel(left: int, label: str, figures: Sequence[Figure], axis: str, ticks: Sequence[int]) -> str:
    def x(at: int) -> float:
        return left + LEFT + ticks.index(at) * (WIDTH - LEFT - 40) / (len(ticks) - 1)

    lines = [(measured(figures, page, axis, ticks), name, color) for page, name, color in (*LINES, SLOWEST)]
    top_ms = max([LEAST_TOP_MS, *(ms for points, _name, _color in lines for _tick, ms in points)])

    def y(ms: float) -> float:
        return TOP + HEIGHT - ms / top_ms * HEIGHT

    parts = [f'<text x="{left + LEFT}" y="20" font-weight="600">SQL p95 in ms by {label}</text>']
    for ms in (0, 20, 50):
        parts.append(
            f'<line x1="{left + LEFT}" x2="{left + WIDTH - 30}" y1="{y(ms):.1f}" y2="{y(ms):.1f}" stroke="#d0d7de"/>'
            f'<text x="{left + LEFT - 8}" y="{y(ms) + 4:.1f}" text-anchor="end">{ms}</text>'
        )
    for tick in ticks:
        parts.append(f'<text x="{x(tick):.1f}" y="{TOP + HEIGHT + 18}" text-anchor="middle">{tick:,}</text>')
    for number, (found, name, color) in enumerate(lines):
        points = [(x(tick), y(ms)) for tick, ms in found]
        path = " ".join(f"{across:.1f},{down:.1f}" for across, down in points)
        parts.append(f'<polyline points="{path}" fill="none" stroke="{color}" stroke-width="2"/>')
        parts += [f'<circle cx="{across:.1f}" cy="{down:.1f}" r="3.5" fill="{color}"/>' for across, down in points]
        at = left + LEFT + number * 90
        parts.append(
            f'<rect x="{at}" y="{TOP + HEIGHT + 34}" width="10" height="10" fill="{color}"/>'
            f'<text x="{at + 15}" y="{TOP + HEIGHT + 43}">{name}</text>'
        )
    return "".join(parts)


def measured(figures: Iterable[Figure], page: str, axis: str, ticks: Sequence[int]) -> list[tuple[int, float]]:
    """A page's points; without a page, the slowest of all at each."""
    found: dict[int, float] = {}
    for one in figures:
        if one[axis] in ticks and page in ("", one["page"]):
            found[one[axis]] = max(found.get(one[axis], 0.0), one["value"])
    return sorted(found.items())


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
