"""`wayleave-agent`: the agent's command line."""

from __future__ import annotations

import argparse
import importlib
import json
import os
import signal
import sys
import time
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from types import FrameType
from typing import Any, NoReturn

from agent import __version__
from agent.cli_baseline import add_baseline_command
from agent.cli_exits import BUSY, DONE, FAILED, NOT_DELIVERED, NOT_ENROLLED, REVOKED, WRONG_USE, read_secret
from agent.cli_exits import fail as _fail
from agent.cli_machine import add_commands
from agent.contract.messages import Refused, Report
from agent.cycle import CycleResult, NotEnrolled, Revoked, get_identity, next_cycle_s, run_cycle
from agent.loading import COMMAND, serve
from agent.observe import Observation, preview
from agent.options import METHODS, Options, OptionsError, read_options
from agent.report import encode_report
from agent.spool import AgentBusy, Delivered, load_identity, load_pending, load_progress

RETRY_S = 60.0


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; the exit code is documented in docs/agent.md."""
    # Windows writes to a pipe in its own code page, which has no letters for many names.
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(encoding="utf-8", errors="replace")
    given = sys.argv[1:] if arguments is None else list(arguments)
    if given == [COMMAND]:  # the child of a running agent, which nobody calls by hand
        return serve(sys.stdin, sys.stdout)
    parsed = build_parser().parse_args(given)
    try:
        options = _options(parsed)
        code: int = parsed.run(parsed, options)
    except OptionsError as error:
        return _fail(str(error), WRONG_USE)
    except NotEnrolled as error:
        return _fail(str(error), NOT_ENROLLED)
    except Revoked as error:
        return _fail(f"stopped until enrolled again: {error}", REVOKED)
    except AgentBusy as error:
        return _fail(str(error), BUSY)
    except OSError as error:
        return _fail(f"{error.filename or options.state_dir}: {error.strerror or error}", FAILED)
    except KeyboardInterrupt:
        return 130
    return code


def build_parser() -> argparse.ArgumentParser:
    """The command line's grammar."""
    parser = argparse.ArgumentParser(
        prog="wayleave-agent",
        description="Tries the places that uv runs programs from, and reports which of them are closed.",
    )
    parser.add_argument("--version", action="version", version=f"wayleave-agent {__version__}")
    common = argparse.ArgumentParser(add_help=False)
    common.add_argument("--config", type=Path, metavar="FILE", help="settings file instead of the machine's own")
    common.add_argument("--state-dir", type=Path, metavar="DIR", help="where identity, progress and spool are kept")
    common.add_argument(
        "--project-root", action="append", metavar="DIR", help="a folder in which projects live (may be repeated)"
    )
    common.add_argument(
        "--method",
        choices=METHODS,
        help="start: try by starting; policy: start nothing, the server judges; auto (default): policy where another"
        " product watches what is started",
    )
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    probe = commands.add_parser("probe", parents=[common], help="try, and print what would be sent; send nothing")
    probe.add_argument(
        "--format",
        choices=("json", "wire", "table"),
        default="json",
        help="json: to read (default); wire: the very bytes, before compression; table: outcomes by pattern",
    )
    probe.set_defaults(run=_probe)

    once = commands.add_parser("once", parents=[common], help="one cycle: try, report what is new, deliver")
    once.add_argument("--force", action="store_true", help="report also if nothing changed")
    once.set_defaults(run=_once)

    run = commands.add_parser("run", parents=[common], help="cycle after cycle, until stopped")
    run.set_defaults(run=_run)

    enrol_command = commands.add_parser("enrol", parents=[common], help="exchange an enrolment secret for an identity")
    enrol_command.add_argument("--server", required=True, metavar="URL", help="https://wayleave.example.com")
    secret = enrol_command.add_mutually_exclusive_group()
    secret.add_argument("--secret", metavar="SECRET", help="other users of this machine may see it; prefer a file")
    secret.add_argument("--secret-file", type=Path, metavar="FILE", help="a file that holds the secret alone")
    enrol_command.add_argument("--ca-file", type=Path, metavar="FILE", help="authorities to trust besides the system's")
    enrol_command.add_argument("--insecure", action="store_true", help="allow http:// to another machine")
    enrol_command.set_defaults(run=_enrol)

    status = commands.add_parser("status", parents=[common], help="who this agent is and how far it has come")
    status.add_argument("--json", action="store_true", help="as JSON")
    status.set_defaults(run=_status)

    add_commands(commands, common)
    add_baseline_command(commands, common)
    return parser


def _options(parsed: argparse.Namespace) -> Options:
    options = read_options(os.environ, config=parsed.config)
    if parsed.state_dir is not None:
        options = replace(options, state_dir=parsed.state_dir.absolute())
    if parsed.method:
        options = replace(options, method=parsed.method)
    if parsed.project_root:
        roots = tuple(str(Path(root).absolute()) for root in parsed.project_root)
        options = replace(options, project_roots=(*options.project_roots, *roots))
    return options


def _probe(parsed: argparse.Namespace, options: Options) -> int:
    report, observation = preview(options, dict(os.environ))
    for finding in observation.findings:
        print(finding, file=sys.stderr)
    if observation.left_out:
        counts = ", ".join(f"{count} {reason}" for reason, count in sorted(observation.left_out.items()))
        print(f"events that stay here: {counts}", file=sys.stderr)
    if parsed.format == "wire":
        print(encode_report(report).decode())
    elif parsed.format == "json":
        print(json.dumps(readable(report), indent=2, ensure_ascii=False))
    else:
        print(render_table(observation))
    for path in observation.left_behind:
        print(f"could not be removed yet, will be swept at the next start: {path}", file=sys.stderr)
    return DONE


def readable(report: Report) -> dict[str, Any]:
    """A report to be read: the bodies, which travel as text, as objects."""
    value: dict[str, Any] = report.to_json()
    value["bodies"] = {digest: json.loads(body) for digest, body in report.bodies.items()}
    return value


def render_table(observation: Observation) -> str:
    """Outcomes by pattern, for people."""
    rows = [("PATTERN", "OUTCOME", "BY / WHY", "ERROR", "TRIED")]
    for probe in observation.probes:
        rows.append(
            (
                probe.pattern if probe.collection in (None, "Exe") else f"{probe.pattern} ({probe.collection})",
                probe.outcome.value,
                (probe.engine or probe.why or "").replace("_", " "),
                "" if probe.error in (None, 0) else str(probe.error),
                probe.specimen.value,
            )
        )
    widths = [max(len(row[column]) for row in rows) for column in range(5)]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows
    )


def _once(parsed: argparse.Namespace, options: Options) -> int:
    result = run_cycle(options, dict(os.environ), deliver=_deliver, force=parsed.force)
    print(describe(result))
    return _exit_code(result)


def _run(_parsed: argparse.Namespace, options: Options) -> int:
    # Without a handler, what is placed would stay until the next start, and as a container's first process we would
    # not end at all.
    signal.signal(signal.SIGTERM, _end)
    while True:
        try:
            result = run_cycle(options, dict(os.environ), deliver=_deliver)
        except (AgentBusy, OSError) as error:
            # Somebody runs `once` at this moment, or the disk is full: no reason to be silent from now on.
            print(f"{_stamp(time.time())} {error}", file=sys.stderr, flush=True)
            time.sleep(RETRY_S)
            continue
        print(f"{_stamp(time.time())} {describe(result)}", flush=True)
        if result.delivered.progress.revoked:
            return REVOKED
        identity, progress = result.delivered.identity, result.delivered.progress
        time.sleep(next_cycle_s(options, progress, identity.host_id, now=time.time()))


def _end(_signal: int, _frame: FrameType | None) -> NoReturn:
    raise SystemExit(DONE)


def _deliver(*arguments: Any, **named: Any) -> Delivered:
    delivered: Delivered = _load("agent.delivery").deliver_over_network(*arguments, **named)
    return delivered


def _load(module: str) -> Any:
    # What talks to the network is the slow half of the agent's start, and most cycles have nothing to say.
    return importlib.import_module(module)


def describe(result: CycleResult) -> str:
    """What a cycle did, in one line."""
    counts: dict[str, int] = {}
    for probe in result.observation.probes:
        counts[probe.outcome.value] = counts.get(probe.outcome.value, 0) + 1
    parts = [", ".join(f"{count} {name}" for name, count in sorted(counts.items())) or "nothing tried"]
    parts.append("a report made" if result.report else "no news")
    delivered = result.delivered
    parts.append(f"{delivered.sent} sent, {delivered.left} waiting")
    if delivered.refused:
        parts.append(f"{delivered.refused} refused")
    if delivered.trouble:
        parts.append(delivered.trouble)
    if result.observation.reading.sightings:
        parts.append(f"{len(result.observation.reading.sightings)} events told")
    parts += result.observation.findings
    if result.dropped:
        parts.append(f"{result.dropped} dropped from a full spool")
    return "; ".join(parts)


def _exit_code(result: CycleResult) -> int:
    if result.delivered.progress.revoked:
        return REVOKED
    return NOT_DELIVERED if result.delivered.left or result.delivered.refused else DONE


def _enrol(parsed: argparse.Namespace, options: Options) -> int:
    enrolling, client = _load("agent.enrolling"), _load("agent.client")
    ca_file = parsed.ca_file.absolute() if parsed.ca_file else options.ca_file
    try:
        answer = enrolling.enrol_here(
            options.state_dir,
            parsed.server,
            read_secret(parsed.secret_file, parsed.secret),
            ca_file=ca_file,
            insecure=parsed.insecure or options.insecure,
            ephemeral=options.ephemeral,
        )
    except client.NoAnswer as error:
        return _fail(f"{parsed.server}: {error}", NOT_DELIVERED)
    except ValueError as error:
        return _fail(str(error), WRONG_USE)
    if isinstance(answer, Refused):
        return _fail(f"{parsed.server} refused: {answer.status} {answer.error}: {answer.message}", FAILED)
    print(f"enrolled at {answer.server} as host {answer.host_id}")
    return DONE


def _status(parsed: argparse.Namespace, options: Options) -> int:
    identity, progress = load_identity(options.state_dir), load_progress(options.state_dir)
    pending = load_pending(options.state_dir) if (options.state_dir / "spool").is_dir() else ()
    facts: dict[str, Any] = {
        "version": __version__,
        "state_dir": str(options.state_dir),
        "server": identity.server if identity else None,
        "host_id": identity.host_id if identity else None,
        "probing": options.probing,
        "revoked": progress.revoked,
        "waiting": len(pending),
        "sequence": progress.sequence,
        "last_cycle_at": _stamp(progress.cycle_at),
        "last_sent_at": _stamp(progress.sent_at),
        "next_report_at": _stamp(progress.next_report_at),
        "failures": progress.failures,
        "dropped": progress.dropped,
        "trouble": progress.trouble or None,
        "findings": list(progress.findings),
        "events_left_out": dict(progress.left_out),
    }
    if options.count_rule_uses:
        facts["rule_uses"] = dict(progress.uses)
    if parsed.json:
        print(json.dumps(facts, indent=2, ensure_ascii=False))
    else:
        width = max(map(len, facts))
        for name, value in facts.items():
            print(f"{name.replace('_', ' ').ljust(width)}  {_words(value)}")
    if progress.revoked:
        return REVOKED
    get_identity(options.state_dir, ephemeral=options.ephemeral)
    return DONE


def _words(value: Any) -> str:
    if isinstance(value, dict):
        value = [f"{count} {name}" for name, count in value.items()]
    if isinstance(value, list):
        return "; ".join(value) or "-"
    return "-" if value is None else str(value)


def _stamp(moment: float) -> str | None:
    return datetime.fromtimestamp(moment, UTC).strftime("%Y-%m-%dT%H:%M:%SZ") if moment else None


if __name__ == "__main__":
    sys.exit(main())
