"""Bringing what waits in the spool to the server, oldest first and one at a time, and minding every answer."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import httpx

from agent.client import NoAnswer, enrol, fetch_catalogue, open_client, send_report
from agent.contract.messages import Acknowledged, Enrolled, Newcomer, Refused
from agent.kept import refresh
from agent.schedule import spread, wait_after
from agent.spool import (
    Delivered,
    Identity,
    Pending,
    Progress,
    add_pending,
    load_pending,
    restart_epoch,
    save_identity,
    save_progress,
)
from agent.uses import without_refused

MAX_TURNS = 6
"""How often one report may be sent again at once: for missing bodies, a new epoch, a new token."""


def deliver_over_network(
    state_dir: Path,
    identity: Identity,
    progress: Progress,
    *,
    now: float,
    host: Newcomer,
    ca_file: Path | None = None,
    catalogue_dir: Path | None = None,
    transport: httpx.BaseTransport | None = None,
) -> Delivered:
    """Open a connection to the identity's server and send what waits; then see whether it has another catalogue.

    `catalogue_dir`: where that is kept, the state directory if nothing else is said.
    """
    with open_for(identity, ca_file=ca_file, transport=transport) as http:
        result = deliver(state_dir, http, identity, progress, now=now, host=host)
        if result.catalogue and not result.progress.revoked:
            refresh_catalogue(catalogue_dir or state_dir, http, result)
        return result


def open_for(
    identity: Identity, *, ca_file: Path | None = None, transport: httpx.BaseTransport | None = None
) -> httpx.Client:
    """A client for the identity's own server, trusting what it was enrolled with."""
    trusted = ca_file or (Path(identity.ca_file) if identity.ca_file else None)
    return open_client(identity.server, ca_file=trusted, transport=transport)


def refresh_catalogue(folder: Path, http: httpx.Client, result: Delivered) -> str | None:
    """Take the server's catalogue, if it is another one and fit to be taken. Returns why not, None if nothing is wrong.

    A catalogue that does not come, or cannot be kept, is asked for again after the next report.
    """
    try:
        return refresh(
            folder,
            lambda etag: fetch_catalogue(http, etag),
            key=result.identity.catalogue_key,
            offered=result.catalogue,
        )
    except (NoAnswer, OSError):
        return None


def deliver(
    state_dir: Path,
    http: httpx.Client,
    identity: Identity,
    progress: Progress,
    *,
    now: float,
    host: Newcomer,
    identity_dir: Path | None = None,
    reload: Callable[[Path], tuple[Pending, ...]] = load_pending,
) -> Delivered:
    """Send what waits. `host`: for enrolling again; `now`: seconds since 1970.

    `identity_dir`: where the identity is kept, if not with the reports.
    """
    identity_dir = identity_dir or state_dir
    result = Delivered(identity=identity, progress=progress)
    if progress.revoked:
        return replace(
            result, left=len(reload(state_dir)), trouble="revoked by the server: stopped until enrolled again"
        )
    enrolled_again = False
    if not identity.token:  # this machine was made from an image of another
        enrolled_again = True
        renewed = _enrol_again(state_dir, identity_dir, http, result, host, now=now)
        if renewed is None:
            return _later(state_dir, result, None, "could not be enrolled", left=len(reload(state_dir)), now=now)
        result = renewed
    while pending := reload(state_dir):
        item, turns = pending[0], 0
        wanted: frozenset[str] = frozenset()
        while True:
            turns += 1
            try:
                answer = _send(http, result, item, wanted)
            except NoAnswer as error:
                return _later(state_dir, result, None, str(error), left=len(pending), now=now)
            if isinstance(answer, Acknowledged):
                result = _acknowledged(state_dir, result, item, answer, now=now)
                break
            if turns >= MAX_TURNS:
                return _later(state_dir, result, answer, _words(answer), left=len(pending), now=now)
            if answer.status == 409 and answer.missing:
                wanted |= set(answer.missing)
                continue
            if answer.status == 409:  # sequence_reused, sequence_too_old: a clone or a restored snapshot
                restarted, pending = restart_epoch(state_dir, result.progress, pending, now=now)
                result, item = replace(result, progress=restarted), pending[0]
                continue
            if answer.status == 401 and identity.secret and not enrolled_again:
                enrolled_again = True
                again = _enrol_again(state_dir, identity_dir, http, result, host, now=now)
                if again is None:
                    return _later(state_dir, result, answer, _words(answer), left=len(pending), now=now)
                result, pending = again, reload(state_dir)
                item = pending[0]
                continue
            if answer.status == 403:
                stopped = replace(result.progress, revoked=True, trouble=_words(answer))
                save_progress(state_dir, stopped)
                return replace(result, progress=stopped, left=len(pending), trouble=_words(answer))
            if answer.status in (422, 429) and (answer.field or "").startswith("sightings") and item.report.sightings:
                # An event that the server cannot take (a clock that was wrong, more than a day may bring) must not cost
                # the state.
                told = add_pending(state_dir, replace(item.report, sightings=()), now=item.made_at)
                lost = result.progress.dropped + len(item.report.sightings)
                result, item = replace(result, progress=replace(result.progress, dropped=lost)), told
                continue
            if answer.status == 422 and (answer.field or "").startswith("rule_uses") and item.report.rule_uses:
                # Nor must a count by a clock that was wrong, or of a day that waited here for too long.
                kept = without_refused(item.report.rule_uses, answer.field or "")
                item = add_pending(state_dir, replace(item.report, rule_uses=kept), now=item.made_at)
                continue
            if answer.status == 422 and answer.field == "epoch":
                # This clock was ahead by days when the epoch began: the server's says when it begins.
                if answer.answered_at is None:
                    return _later(state_dir, result, answer, _words(answer), left=len(pending), now=now)
                epoch = max(int(answer.answered_at * 1000), result.progress.accepted_epoch + 1)
                restarted, pending = restart_epoch(state_dir, result.progress, pending, now=now, epoch=epoch)
                result, item = replace(result, progress=restarted), pending[0]
                continue
            if answer.status in (400, 413, 422):
                # This report will never be taken: keep the reason, not the report, and go on with the next.
                result = _set_aside(state_dir, result, item, answer)
                break
            return _later(state_dir, result, answer, _words(answer), left=len(pending), now=now)
    return result


def _send(http: httpx.Client, result: Delivered, item: Pending, wanted: frozenset[str]) -> Acknowledged | Refused:
    known = set(result.progress.known) - wanted
    bodies = {digest: body for digest, body in item.report.bodies.items() if digest not in known}
    return send_report(http, result.identity.token, replace(item.report, bodies=bodies))


def _acknowledged(state_dir: Path, result: Delivered, item: Pending, answer: Acknowledged, *, now: float) -> Delivered:
    digests = tuple(item.report.sets.values())
    known = (*(digest for digest in result.progress.known if digest not in digests), *digests)
    progress = replace(
        result.progress,
        known=known,
        accepted_epoch=max(result.progress.accepted_epoch, item.report.epoch),
        sequence=max(result.progress.sequence, item.report.sequence)
        if item.report.epoch == result.progress.epoch
        else result.progress.sequence,
        sent_at=now,
        # A little earlier or later than asked, so that hosts that began together do not stay together.
        next_report_at=now + answer.next_report_s * (0.9 + 0.2 * spread(result.identity.host_id)),
        failures=0,
        stopped=not answer.probing,
        trouble="",
    )
    save_progress(state_dir, progress)
    item.path.unlink(missing_ok=True)
    return replace(result, progress=progress, sent=result.sent + 1, catalogue=answer.catalogue)


def _later(
    state_dir: Path, result: Delivered, answer: Refused | None, trouble: str, *, left: int, now: float
) -> Delivered:
    failures = result.progress.failures + 1
    wait_s = wait_after(failures, answer.retry_after_s if answer else None, result.identity.host_id)
    progress = replace(result.progress, failures=failures, trouble=trouble[:500], next_report_at=now + wait_s)
    save_progress(state_dir, progress)
    status = answer.status if answer else 0
    return replace(result, progress=progress, left=left, wait_s=wait_s, status=status, trouble=trouble)


def _set_aside(state_dir: Path, result: Delivered, item: Pending, answer: Refused) -> Delivered:
    progress = replace(result.progress, dropped=result.progress.dropped + 1, trouble=_words(answer), sets={})
    save_progress(state_dir, progress)
    item.path.unlink(missing_ok=True)
    return replace(result, progress=progress, refused=result.refused + 1, trouble=_words(answer))


def _enrol_again(
    state_dir: Path, identity_dir: Path, http: httpx.Client, result: Delivered, host: Newcomer, *, now: float
) -> Delivered | None:
    """The server does not know us: it was replaced, or we were deleted. Once, and only with the secret given to us."""
    try:
        answer = enrol(http, result.identity.secret or "", host)
    except NoAnswer:
        return None
    if not isinstance(answer, Enrolled):
        return None
    identity = replace(result.identity, host_id=answer.host_id, token=answer.token, catalogue_key=answer.catalogue_key)
    progress = replace(result.progress, known=())
    # The identity last: killed in between, the old token is refused again and this is done again.
    progress, _ = restart_epoch(state_dir, progress, load_pending(state_dir), now=now)
    save_identity(identity_dir, identity)
    return replace(result, identity=identity, progress=progress)


def _words(answer: Refused) -> str:
    field = f" ({answer.field})" if answer.field else ""
    return f"the server answered {answer.status} {answer.error}{field}: {answer.message}"
