"""Asking the machine how its installation stands: what `doctor` tells in words."""

from __future__ import annotations

import shutil
import sys
import time
from collections.abc import Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from pathlib import Path

import httpx

from agent._platform import open_lock, query_service, read_channel, read_controls, read_principal
from agent.channels import CHANNELS, query_of
from agent.contract.messages import CATALOGUE_PATH
from agent.controls import choose_method, find_controls
from agent.cycle import recognise_machine
from agent.delivery import open_for
from agent.doctor import Condition
from agent.inbox import take_notes
from agent.install import Ground
from agent.options import Options
from agent.places import Places, read_orders
from agent.rights import TRUSTED_OWNERS
from agent.sddl import read_owner_of
from agent.service import APPID_SERVICE, service_word
from agent.spool import Identity, load_identity, load_pending, load_progress
from agent.tasks import MACHINE_TASK, USER_TASK, machine_task_xml, user_task_xml

if sys.platform == "win32":
    from agent._install_windows import look_up_task, survey
else:
    from agent._install_posix import look_up_task, survey

MAX_RECORD = 2**53


def examine(
    options: Options,
    environment: Mapping[str, str],
    places: Places,
    program_directory: Path,
    *,
    transport: httpx.BaseTransport | None = None,
) -> Condition:
    """How things stand. Nothing is changed, and nothing is started but the scheduler's own query."""
    principal = read_principal()
    ground = survey(places, program_directory)
    is_machine_wide = places.inbox.is_dir()
    state_dir = places.machine if is_machine_wide else options.state_dir
    may_look = _may_look(state_dir)
    progress = load_progress(state_dir)
    identity = load_identity(state_dir)
    pending = _pending(state_dir) if may_look else ()
    controls = find_controls(read_controls())
    now = time.time()
    server_error, clock_s = _ask_server(identity, options, transport)
    return Condition(
        is_elevated=ground.is_elevated,
        is_machine_wide=is_machine_wide,
        has_identity=identity is not None if may_look else None,
        is_revoked=progress.revoked,
        is_other_machine=identity is not None
        and identity.secret is None
        and identity.machine != recognise_machine(ephemeral=options.ephemeral),
        tasks=_tasks(environment, program_directory) if is_machine_wide else {},
        channels={
            channel.name: read_channel(channel.name, query_of(channel, MAX_RECORD), 1).error for channel in CHANNELS
        },
        server=identity.server if identity else None,
        server_error=server_error,
        clock_s=clock_s,
        cycle_age_s=now - progress.cycle_at if progress.cycle_at else None,
        sent_age_s=now - progress.sent_at if progress.sent_at else None,
        waiting=len(pending),
        oldest_waiting_s=max((now - made_at for made_at in pending), default=0.0),
        dropped=progress.dropped,
        trouble=progress.trouble,
        is_busy=may_look and _is_busy(state_dir),
        disk_free_bytes=_disk_free(state_dir),
        foreign_owner=_foreign_owner(ground) if is_machine_wide else None,
        base=str(places.base),
        inbox=_inbox(places, principal.sid) if is_machine_wide and not ground.is_elevated else None,
        refused_notes=_refused(places) if is_machine_wide and ground.is_elevated else (),
        probing=options.probing,
        service=service_word(query_service(APPID_SERVICE)),
        method=choose_method(options.method, controls),
        other_controls=controls,
        stopped_by_server=not read_orders(places).probing if is_machine_wide else progress.stopped,
    )


def _tasks(environment: Mapping[str, str], program_directory: Path) -> dict[str, str]:
    directory = str(program_directory)
    return {
        USER_TASK: look_up_task(USER_TASK, user_task_xml(directory), environment),
        MACHINE_TASK: look_up_task(MACHINE_TASK, machine_task_xml(directory), environment),
    }


def _ask_server(
    identity: Identity | None, options: Options, transport: httpx.BaseTransport | None
) -> tuple[str | None, float | None]:
    """Why the server did not answer, and by how much this machine's clock is ahead of its."""
    if identity is None:
        return None, None
    try:
        with open_for(identity, ca_file=options.ca_file, transport=transport) as http:
            answer = http.head(CATALOGUE_PATH)
    except (httpx.HTTPError, OSError, ValueError) as error:
        return f"{type(error).__name__}: {error}", None
    trouble = None if answer.status_code in (200, 304) else f"it answered {answer.status_code}"
    try:
        told = parsedate_to_datetime(answer.headers["Date"])
    except (KeyError, ValueError):
        return trouble, None
    return trouble, (datetime.now(UTC) - told).total_seconds()


def _may_look(state_dir: Path) -> bool:
    try:
        next(state_dir.iterdir(), None)
    except FileNotFoundError:
        return True
    except OSError:
        return False
    return True


def _pending(state_dir: Path) -> tuple[float, ...]:
    folders = (state_dir, *(state_dir / "subjects").glob("S-1-*"))
    return tuple(item.made_at for folder in folders if (folder / "spool").is_dir() for item in load_pending(folder))


def _is_busy(state_dir: Path) -> bool:
    if not (state_dir / "lock").exists():
        return False
    try:
        lock = open_lock(state_dir / "lock")
    except OSError:
        return False
    if lock is None:
        return True
    lock.close()
    return False


def _disk_free(state_dir: Path) -> int | None:
    for place in (state_dir, *state_dir.parents):
        try:
            return shutil.disk_usage(place).free
        except OSError:
            continue
    return None


def _foreign_owner(ground: Ground) -> str | None:
    owner = read_owner_of(ground.base_sddl or "")
    return owner if owner is not None and owner not in TRUSTED_OWNERS | {ground.installer} else None


def _inbox(places: Places, sid: str) -> str:
    folder = places.inbox / sid
    try:
        next(folder.iterdir(), None)
    except FileNotFoundError:
        return f"{folder} is not there yet"
    except OSError as error:
        return f"{folder}: {error.strerror or error}"
    return "ok"


def _refused(places: Places) -> tuple[str, ...]:
    try:
        people = sorted(path.name for path in places.inbox.iterdir())
    except OSError:
        return ()
    return tuple(f"{one.sid}: {one.reason}" for one in take_notes(places.inbox, people).refused)
