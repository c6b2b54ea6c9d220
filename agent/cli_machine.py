"""The commands of a machine-wide installation: both halves, `install`, `uninstall` and `doctor`."""

from __future__ import annotations

import argparse
import functools
import importlib
import json
import os
import sys
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from agent._platform import PLATFORM
from agent.cli_exits import DONE, FAILED, NOT_DELIVERED, REVOKED, WRONG_USE, fail, read_secret
from agent.options import Options
from agent.places import Places, find_places

_Subparsers = Any


def add_commands(commands: _Subparsers, common: argparse.ArgumentParser) -> None:
    """Add the commands to the command line's grammar."""
    user = commands.add_parser("user", parents=[common], help="the user's half: probe, and leave a note")
    user.add_argument("--force", action="store_true", help="probe whatever was before")
    user.set_defaults(run=_user)

    machine = commands.add_parser("machine", parents=[common], help="the system's half: read, report, deliver")
    machine.add_argument("--force", action="store_true", help="report and deliver now")
    machine.set_defaults(run=_machine)

    install = commands.add_parser("install", parents=[common], help="set this machine up for all of its users")
    install.add_argument("--server", metavar="URL", help="https://wayleave.example.com")
    install.add_argument(
        "--secret-file", type=Path, metavar="FILE", help="a file that holds the enrolment secret alone"
    )
    install.add_argument("--ca-file", type=Path, metavar="FILE", help="authorities to trust besides the system's")
    install.add_argument("--insecure", action="store_true", help="allow http:// to another machine")
    install.add_argument("--no-tasks", action="store_true", help="leave the scheduled tasks to a package")
    install.add_argument("--program-dir", type=Path, metavar="DIR", help="where the program lies, if not here")
    install.set_defaults(run=_install)

    uninstall = commands.add_parser("uninstall", parents=[common], help="take the tasks and the state back")
    uninstall.add_argument("--keep-state", action="store_true", help="keep identity, token and waiting reports")
    uninstall.add_argument("--no-tasks", action="store_true", help="leave the scheduled tasks to a package")
    uninstall.set_defaults(run=_uninstall)

    doctor = commands.add_parser("doctor", parents=[common], help="what is wrong here, and what to do about it")
    doctor.add_argument("--json", action="store_true", help="as JSON")
    doctor.add_argument("--program-dir", type=Path, metavar="DIR", help="where the program lies, if not here")
    doctor.set_defaults(run=_doctor)


def places_of(options: Options) -> Places:
    """Where the halves meet, by the settings or by this machine's custom."""
    return Places(base=options.machine_dir) if options.machine_dir else find_places(os.environ)


def _user(parsed: argparse.Namespace, options: Options) -> int:
    half = importlib.import_module("agent.user_half")
    try:
        result = half.run_user_cycle(options, dict(os.environ), places_of(options), force=parsed.force)
    except half.WrongAccount as error:
        return fail(str(error), WRONG_USE)
    if result.trouble:
        return fail(result.trouble, NOT_DELIVERED)
    print(f"{len(result.observation.probes)} patterns looked at; a note was left")
    return DONE


def _machine(parsed: argparse.Namespace, options: Options) -> int:
    half = importlib.import_module("agent.machine_half")
    places = places_of(options)
    with half.deferred_delivery(places, options) as deliver:
        result = half.run_machine_cycle(options, dict(os.environ), places, deliver=deliver, force=parsed.force)
    parts = [
        f"{result.people} users with a note",
        f"{result.reports} reports made",
        f"{result.sent} sent, {result.left} waiting",
    ]
    parts += [f"{one.sid}: {one.reason}" for one in result.refused]
    parts += result.findings
    if result.trouble:
        parts.append(result.trouble)
    print("; ".join(parts))
    if result.revoked:
        return REVOKED
    return NOT_DELIVERED if result.left else DONE


def _install(parsed: argparse.Namespace, options: Options) -> int:
    planning = importlib.import_module("agent.install")
    doing = _doing()
    places = places_of(options)
    directory = parsed.program_dir or program_directory()
    try:
        secret = read_secret(parsed.secret_file) if parsed.server else ""
        ground = doing.survey(places, directory)
        if parsed.secret_file is not None:
            file = parsed.secret_file.absolute()
            warning = planning.warn_of_secret(str(file), doing.secret_rights(file), ground.installer)
            if warning:
                print(f"warning: {warning}", file=sys.stderr)
        with_tasks = not parsed.no_tasks and PLATFORM == "windows"
        for step in planning.plan_install(ground, with_tasks=with_tasks):
            doing.carry_out(step, places, os.environ)
            print(f"done: {getattr(step, 'path', None) or step.name}")
        if parsed.server:
            importlib.import_module("agent.enrolling").prepare_enrolment(
                places.machine,
                parsed.server,
                secret,
                ca_file=parsed.ca_file.absolute() if parsed.ca_file else options.ca_file,
                insecure=parsed.insecure or options.insecure,
                ephemeral=options.ephemeral,
            )
            print(f"the system's half will enrol at {parsed.server} with its first report")
    except planning.CannotInstall as error:
        return fail(str(error), FAILED)
    except ValueError as error:
        return fail(str(error), WRONG_USE)
    return DONE


def _uninstall(parsed: argparse.Namespace, options: Options) -> int:
    doing = _doing()
    places = places_of(options)
    if not doing.survey(places, program_directory()).is_elevated:
        return fail("this needs an administrator: open a terminal with 'Run as administrator'", FAILED)
    left = doing.remove(places, os.environ, with_tasks=not parsed.no_tasks, keep_state=parsed.keep_state)
    for item in left:
        print(f"could not be removed: {item}", file=sys.stderr)
    return FAILED if left else DONE


def _doctor(parsed: argparse.Namespace, options: Options) -> int:
    examine, doctor = importlib.import_module("agent.examine"), importlib.import_module("agent.doctor")
    directory = parsed.program_dir or program_directory()
    ailments = doctor.diagnose(examine.examine(options, dict(os.environ), places_of(options), directory))
    if parsed.json:
        print(json.dumps([asdict(ailment) for ailment in ailments], indent=2, ensure_ascii=False))
    else:
        for ailment in ailments:
            print(f"{ailment.weight}: {ailment.what}")
            if ailment.command:
                print(f"       try: {ailment.command}")
        if not ailments:
            print("all is well")
    return FAILED if any(ailment.weight == "wrong" for ailment in ailments) else DONE


def program_directory() -> Path:
    """Where this program lies: of a frozen one its own directory, else Python's, which holds no such program."""
    return Path(sys.executable).resolve().parent


@functools.cache
def _doing() -> Any:
    return importlib.import_module("agent._install_windows" if PLATFORM == "windows" else "agent._install_posix")


def machine_options(options: Options) -> Options:
    """The settings of the system's half, whose state lies in the machine's own folder."""
    return replace(options, state_dir=places_of(options).machine)
