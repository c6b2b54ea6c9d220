"""The baseline: trusted files and what speaks for each; lists and vendors' archives are sent here."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path as FilePath
from typing import Annotated, Any, Literal, cast, get_args

from fastapi import APIRouter, Depends, Path, Query, Request
from sqlalchemy.orm import Session
from starlette.concurrency import run_in_threadpool
from starlette.responses import JSONResponse, RedirectResponse, Response

from agent.pe.listing import MAX_LISTING_BYTES, ListingError, read_listing
from app.accounts.roles import Permission
from app.accounts.sessions import Person
from app.accounts.tokens import TokenBearer
from app.audit.record import Actor
from app.db.session import SessionDep, session_scope
from app.errors import AppError, InvalidError, MalformedError, TooLargeError
from app.imports.uploads import check_room, uploads_dir
from app.policies.archives import MAX_ARCHIVE_BYTES
from app.policies.baselines import TrustedFile, add_listing, remove_baseline_file
from app.policies.checksums import MAX_CHECKSUM_BYTES
from app.policies.evidence import ground_of
from app.policies.queries_baseline import BaselineFilter, Ground, count_baseline, page_baseline
from app.policies.vendor_archives import (
    ArchiveLine,
    add_vendor_archive,
    check_archive,
    list_vendor_archives,
    remove_vendor_archive,
)
from app.web.guards import ApiGuard, ApiViewFleet, Guard, ViewFleet
from app.web.templating import address, render
from app.web.uploads import Received, receive_upload

router = APIRouter(include_in_schema=False)
api_router = APIRouter(prefix="/api/v1", tags=["rules"])

ManageBaseline = Annotated[Person, Depends(Guard(Permission.MANAGE_BASELINE))]
ApiManageBaseline = Annotated[Person | TokenBearer, Depends(ApiGuard(Permission.MANAGE_BASELINE))]
Number = Annotated[int, Path(ge=1, le=2**31 - 1)]

GROUNDS = (("", "All"), ("baseline", "In baseline"), ("archive", "Vendor archive"))
MAX_SOURCE_LETTERS = 300


@dataclass(frozen=True, slots=True, kw_only=True)
class Sent:
    """What came of a file that was sent. `left_out`: what the server could not take (path, reason)."""

    kind: Literal["list", "archive"]
    name: str
    sha256: str
    added: int
    known: int
    left_out: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class FilePage:
    """Some trusted files, and the cursor to ask the next with (null: these are the last)."""

    files: list[dict[str, Any]]
    next_cursor: str | None


@router.get("/baseline")
def show_baseline(
    person: ViewFleet,  # noqa: ARG001 - the guard
    request: Request,
    session: SessionDep,
    q: Annotated[str, Query(max_length=200)] = "",
    ground: Annotated[str, Query(max_length=20)] = "",
    archive: Annotated[int | None, Query(ge=1, le=2**31 - 1)] = None,
    after: Annotated[str, Query(max_length=600)] = "",
    added: Annotated[int | None, Query(ge=0, le=10**6)] = None,
    known: Annotated[int, Query(ge=0, le=10**6)] = 0,
    left: Annotated[int, Query(ge=0, le=10**6)] = 0,
) -> Response:
    return _page(
        request,
        session,
        BaselineFilter(search=q, ground=_ground(ground), archive_id=archive),
        after=after,
        done=None if added is None else (added, known, left),
    )


@router.post("/baseline/lists")
async def receive_list(person: ManageBaseline, request: Request) -> Response:
    return await _receive_for_page(request, person.actor, "list")


@router.post("/baseline/archives")
async def receive_archive(person: ManageBaseline, request: Request) -> Response:
    """The archive is received by the event loop; checked, unpacked and hashed by a thread."""
    return await _receive_for_page(request, person.actor, "archive")


@router.post("/baseline/{file_id}/remove")
def remove_file(person: ManageBaseline, session: SessionDep, file_id: Number) -> Response:
    remove_baseline_file(session, file_id, actor=person.actor)
    return RedirectResponse("/baseline", status_code=303)


@router.post("/baseline/archives/{archive_id}/remove")
def remove_archive(person: ManageBaseline, session: SessionDep, archive_id: Number) -> Response:
    remove_vendor_archive(session, archive_id, actor=person.actor)
    return RedirectResponse("/baseline", status_code=303)


@api_router.get("/baseline")
def get_baseline(
    caller: ApiViewFleet,  # noqa: ARG001 - the guard
    session: SessionDep,
    search: Annotated[str, Query(max_length=200)] = "",
    ground: Annotated[Ground, Query()] = "",
    cursor: Annotated[str, Query(max_length=600)] = "",
    limit: Annotated[int, Query(ge=1, le=500)] = 100,
) -> FilePage:
    """Trusted files and what speaks for each: in baseline, or a vendor archive."""
    page = page_baseline(session, BaselineFilter(search=search, ground=ground), cursor=cursor or None, rows=limit)
    return FilePage(files=[_told(file) for file in page.rows], next_cursor=page.next_cursor)


@api_router.get("/baseline/archives")
def get_archives(caller: ApiViewFleet, session: SessionDep) -> list[ArchiveLine]:  # noqa: ARG001 - the guard
    """Vendors' archives that were checked against a published checksum."""
    return list(list_vendor_archives(session))


@api_router.post("/baseline/lists", status_code=201)
async def post_list(caller: ApiManageBaseline, request: Request) -> Response:
    """Trust the files of a list of `wayleave-agent baseline`: multipart/form-data with `file`, and `source`."""
    return JSONResponse(_as_json(await _receive(request, caller.actor, "list")), status_code=201)


@api_router.post("/baseline/archives", status_code=201)
async def post_archive(caller: ApiManageBaseline, request: Request) -> Response:
    """Trust the files of a vendor's archive: multipart/form-data with `file` and `checksums`."""
    return JSONResponse(_as_json(await _receive(request, caller.actor, "archive")), status_code=201)


@api_router.delete("/baseline/{file_id}", status_code=204)
def delete_file(caller: ApiManageBaseline, session: SessionDep, file_id: Number) -> None:
    """Trust a file no longer. Rules already exported stay where they are."""
    remove_baseline_file(session, file_id, actor=caller.actor)


@api_router.delete("/baseline/archives/{archive_id}", status_code=204)
def delete_archive(caller: ApiManageBaseline, session: SessionDep, archive_id: Number) -> None:
    """Trust an archive no longer, nor the files that only it spoke for."""
    remove_vendor_archive(session, archive_id, actor=caller.actor)


async def _receive_for_page(request: Request, actor: Actor, kind: Literal["list", "archive"]) -> Response:
    try:
        sent = await _receive(request, actor, kind)
    except (InvalidError, MalformedError, TooLargeError) as error:
        return await run_in_threadpool(_page_with_problem, request, kind, error)
    target = address("/baseline", added=str(sent.added), known=str(sent.known), left=str(len(sent.left_out)))
    return RedirectResponse(target, status_code=303)


async def _receive(request: Request, actor: Actor, kind: Literal["list", "archive"]) -> Sent:
    """Take a form with a list or an archive. raises: InvalidError, MalformedError, TooLargeError"""
    settings = request.app.state.settings
    announced = request.headers.get("content-length", "0")
    await run_in_threadpool(check_room, settings.data_dir, int(announced) if announced.isdecimal() else 0)
    received = await receive_upload(
        request,
        uploads_dir(settings.data_dir),
        max_bytes=MAX_LISTING_BYTES if kind == "list" else min(settings.upload_bytes, MAX_ARCHIVE_BYTES),
        small={"checksums": MAX_CHECKSUM_BYTES},
    )
    if received.path is None:
        raise InvalidError("Choose a file first.", field=kind)
    take = _take_list if kind == "list" else _take_archive
    try:
        return await run_in_threadpool(take, request, received, received.path, actor)
    finally:
        received.path.unlink(missing_ok=True)


def _take_list(request: Request, received: Received, path: FilePath, actor: Actor) -> Sent:
    source = received.fields.get("source", "").strip()
    if len(source) > MAX_SOURCE_LETTERS or not (source or "x").isprintable():
        raise InvalidError(f"At most {MAX_SOURCE_LETTERS} printable letters.", field="source")
    try:
        listing = read_listing(path.read_bytes())
    except ListingError as error:
        raise InvalidError(f"{received.name}: {error}", field="list") from error
    with session_scope(request.app.state.engine) as session:
        done = add_listing(session, listing, name=received.name, source=source or None, actor=actor)
    return Sent(kind="list", name=received.name, sha256=listing.sha256, added=len(done.added), known=len(done.known))


def _take_archive(request: Request, received: Received, path: FilePath, actor: Actor) -> Sent:
    if "checksums" not in received.small:
        raise InvalidError("Choose the vendor's checksum file, too.", field="checksums")
    checksum_name, checksums = received.small["checksums"]
    checked = check_archive(path, received.name, checksums, checksum_name)
    with session_scope(request.app.state.engine) as session:
        done = add_vendor_archive(session, checked, actor=actor)
    return Sent(
        kind="archive",
        name=checked.name,
        sha256=checked.sha256,
        added=len(done.added),
        known=len(done.known),
        left_out=done.left_out,
    )


def _page_with_problem(request: Request, kind: str, problem: AppError) -> Response:
    with session_scope(request.app.state.engine, writes=False) as session:
        return _page(request, session, BaselineFilter(), problem=problem, of_form=kind)


def _page(
    request: Request,
    session: Session,
    wanted: BaselineFilter,
    *,
    after: str = "",
    done: tuple[int, int, int] | None = None,
    problem: AppError | None = None,
    of_form: str = "",
) -> Response:
    kept = {"q": wanted.search, "ground": wanted.ground, "archive": str(wanted.archive_id or "")}
    page = page_baseline(session, wanted, cursor=after or None)
    archives = list_vendor_archives(session)
    return render(
        request,
        "baseline/page.html",
        fragment="files",
        status=problem.status if problem else 200,
        wanted=wanted,
        counts=count_baseline(session),
        files=page.rows,
        next_address=address("/baseline", **kept, after=page.next_cursor) if page.next_cursor else None,
        is_first=not after,
        archives=archives,
        archive=next((one for one in archives if one.id == wanted.archive_id), None),
        grounds=[
            (title, address("/baseline", **(kept | {"ground": key})), key == wanted.ground) for key, title in GROUNDS
        ],
        ground_of=ground_of,
        done=done,
        problem=problem,
        of_form=of_form,
        max_archive_bytes=MAX_ARCHIVE_BYTES,
    )


def _ground(given: str) -> Ground:
    return cast("Ground", given) if given in get_args(Ground) else ""


def _told(file: TrustedFile) -> dict[str, Any]:
    return {
        "id": file.id,
        "name": file.name,
        "kind": file.kind,
        "size_bytes": file.size_bytes,
        "sha256": file.sha256,
        "authenticode_sha256": file.authenticode_sha256,
        "publisher": file.publisher,
        "product": file.product,
        "binary": file.binary,
        "version": file.version,
        "ground": ground_of(file),
        "archive": file.archive,
        "source": file.source,
        "added_at": file.added_at.isoformat(),
        "added_by": file.added_by,
    }


def _as_json(sent: Sent) -> Mapping[str, Any]:
    return {
        "name": sent.name,
        "sha256": sent.sha256,
        "added": sent.added,
        "known": sent.known,
        "left_out": [{"path": path, "reason": reason} for path, reason in sent.left_out],
    }
