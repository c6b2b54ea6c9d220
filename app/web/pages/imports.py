"""Imports: send an event log or an export, watch it being read, and see what became of its events."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated

from fastapi import APIRouter, Path, Query, Request
from starlette.concurrency import run_in_threadpool
from starlette.responses import RedirectResponse, Response

from app.db.base import now, to_ms
from app.db.session import SessionDep, session_scope
from app.errors import AppError, InvalidError, MalformedError
from app.imports.jobs import Import, cancel_import, count_added, get_import, list_imports
from app.imports.model import Given
from app.imports.read import FORMAT_WORDS
from app.imports.uploads import accept_upload, check_room, upload_path, uploads_dir
from app.web.guards import ManageAgents
from app.web.templating import render
from app.web.uploads import receive_upload

router = APIRouter(include_in_schema=False)

UPLOAD_PATH = "/imports"
EVENT_TYPES = {"": "not such a list", "denied": "files that were blocked", "audited": "files that would be blocked"}
STATE_WORDS = {
    "waiting": "waiting",
    "running": "reading",
    "done": "done",
    "failed": "failed",
    "cancelled": "cancelled",
}
MAX_VARIABLES = 40
SHOWN = 50

ImportId = Annotated[int, Path(ge=1, le=2**31)]


@router.get(UPLOAD_PATH)
def show_imports(
    person: ManageAgents,  # noqa: ARG001 - the guard
    request: Request,
    before: Annotated[int | None, Query(ge=1, le=2**31 - 1)] = None,
) -> Response:
    return _list_page(request, before=before)


@router.post(UPLOAD_PATH)
async def receive_import(person: ManageAgents, request: Request) -> Response:
    """The file is received by the event loop and written by threads: a slow sender holds up nobody."""
    settings = request.app.state.settings
    fields: Mapping[str, str] = {}
    try:
        said = request.headers.get("content-length", "0")
        await run_in_threadpool(check_room, settings.data_dir, int(said) if said.isdecimal() else 0)
        received = await receive_upload(request, uploads_dir(settings.data_dir), max_bytes=settings.upload_bytes)
        fields = received.fields
        if received.path is None:
            raise InvalidError("Choose a file first.", field="file")
        try:
            job_id = await run_in_threadpool(
                accept_upload,
                request.app.state.engine,
                settings,
                received.path,
                name=received.name,
                given=read_given(fields),
                actor=person.actor,
            )
        finally:
            received.path.unlink(missing_ok=True)
    except (InvalidError, MalformedError) as error:
        return await run_in_threadpool(_list_page, request, fields=fields, problem=error, status=error.status)
    return RedirectResponse(f"{UPLOAD_PATH}/{job_id}", status_code=303)


@router.get("/imports/{import_id}")
def show_import(person: ManageAgents, request: Request, session: SessionDep, import_id: ImportId) -> Response:  # noqa: ARG001 - the guard
    return _import_page(request, get_import(session, import_id))


@router.post("/imports/{import_id}/cancel")
def cancel(person: ManageAgents, request: Request, session: SessionDep, import_id: ImportId) -> Response:
    cancel_import(session, import_id, actor=person.actor)
    upload_path(request.app.state.settings.data_dir, import_id).unlink(missing_ok=True)
    return RedirectResponse(f"{UPLOAD_PATH}/{import_id}", status_code=303)


def read_given(fields: Mapping[str, str]) -> Given:
    """What the form says of the file. raises: InvalidError"""
    env: dict[str, str] = {}
    for line in fields.get("variables", "").splitlines():
        name, equals, value = line.strip().partition("=")
        if not line.strip():
            continue
        if not equals or not name.strip() or not value.strip():
            raise InvalidError(f"“{line.strip()[:60]}” is not NAME=VALUE.", field="variables")
        env[name.strip()] = value.strip()
    if len(env) > MAX_VARIABLES:
        raise InvalidError(f"No more than {MAX_VARIABLES} variables.", field="variables")
    computer, event_type = fields.get("computer", "").strip(), fields.get("event_type", "")
    if len(computer) > 255 or not (computer or "x").isprintable():
        raise InvalidError("A computer's name has at most 255 letters.", field="computer")
    if event_type not in EVENT_TYPES:
        raise InvalidError("Choose one of these.", field="event_type")
    return Given(computer=computer, event_type=event_type, at=to_ms(now()), env=env)


def _list_page(
    request: Request,
    *,
    before: int | None = None,
    fields: Mapping[str, str] | None = None,
    problem: AppError | None = None,
    status: int = 200,
) -> Response:
    with session_scope(request.app.state.engine, writes=False) as session:
        imports = list_imports(session, before=before, limit=SHOWN + 1)
        total, added = count_added(session)
    form = {"computer": "", "event_type": "", "variables": "", **(fields or {})}
    return render(
        request,
        "imports/list.html",
        status=status,
        imports=imports[:SHOWN],
        total=total,
        added=added,
        before=before,
        next_before=imports[SHOWN - 1].id if len(imports) > SHOWN else None,
        form=form,
        problem=problem,
        event_types=EVENT_TYPES,
        state_words=STATE_WORDS,
        format_words={kind.value: words for kind, words in FORMAT_WORDS.items()},
        max_bytes=request.app.state.settings.upload_bytes,
    )


def _import_page(request: Request, found: Import) -> Response:
    return render(
        request,
        "imports/page.html",
        fragment="progress",
        one=found,
        share=100 * found.read_bytes // max(found.size_bytes, 1),
        state_words=STATE_WORDS,
        format_words={kind.value: words for kind, words in FORMAT_WORDS.items()},
    )
