"""The server as one ASGI application: where machines talk, where people look, and how errors are answered."""

from __future__ import annotations

import asyncio
import gc
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from sqlalchemy import Engine
from sqlalchemy.exc import SQLAlchemyError
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.types import Receive, Scope, Send

from agent.contract.messages import REPORTS_PATH
from app.accounts.sealing import Sealer
from app.audit.forward import Destinations
from app.db.engine import open_engine
from app.db.session import session_scope
from app.errors import AppError, BusyError, InvalidError
from app.fleet.groups import make_standard_groups
from app.fleet.incoming import Limits
from app.imports.uploads import UploadReader
from app.ingest.catalogue import sign_catalogue
from app.ingest.gate import AdmissionGate
from app.ingest.keys import load_keys
from app.ingest.routes import Ingest, ReportEndpoint
from app.ingest.writer import Writer
from app.jobs.clock import Clock
from app.jobs.work import Keeping
from app.notices.mail import MailWay
from app.notices.send import Told
from app.notices.watch import Thresholds
from app.readiness import find_faults
from app.settings import Settings
from app.web.errors import answer_busy
from app.web.install import install as install_pages
from app.web.pages.sso import find_provider
from app.work.run import AT_ONCE, Workers

log = logging.getLogger("wayleave")


class Server(FastAPI):
    """The application, with a short way for reports: they pass by everything that is there for people."""

    reports: ReportEndpoint

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and scope["path"] == REPORTS_PATH and scope["method"] == "POST":
            await self.reports(scope, receive, send)
        else:
            await super().__call__(scope, receive, send)


def create_app(settings: Settings | None = None) -> FastAPI:
    """The application. Its tables must be there (`wayleave db upgrade`) when it starts, not when it is made."""
    settings = settings or Settings()
    engine = open_engine(settings)
    # The report writer, the two of the clock and imports each hold one connection of their own, whatever pages do. The
    # writer's is in no pool with others: once it is lost, the next one is new.
    writer_engine = open_engine(settings, pool_size=1)
    own_engine = open_engine(settings, pool_size=3)
    # So does long work: a piece reads with one, and tells with another how far it is; one more beats for all.
    work_engine = open_engine(settings, pool_size=2 * AT_ONCE + 1)
    keys = load_keys(settings)
    ingest = Ingest(settings=settings, engine=engine, keys=keys, catalogue=sign_catalogue(keys))

    @asynccontextmanager
    async def lifespan(_app: FastAPI) -> AsyncIterator[None]:
        linux_group = await run_in_threadpool(_standard_groups, engine)
        writer = Writer(
            writer_engine,
            linux_group=linux_group,
            limits=Limits(
                new_sets=settings.new_sets_per_day,
                subjects=settings.subjects_per_day,
                sightings=settings.sightings_per_day,
            ),
            group_reports=settings.group_reports,
            group_wait_s=settings.group_wait_ms / 1000,
            by_bucket=settings.commit_by_bucket,
            queue_reports=settings.queue_reports,
            queue_age_s=settings.queue_age_s,
            answer_s=settings.answer_s,
        )
        clock = Clock(own_engine, _keeping(settings))
        writer.start(asyncio.get_running_loop())
        clock.start()
        uploads = UploadReader(own_engine, settings)
        uploads.start()
        ingest.writer = writer
        app.state.writer, app.state.clock = writer, clock
        # What was imported stays for good: the collector needn't walk it again and again.
        gc.collect()
        gc.freeze()
        try:
            yield
        finally:
            await run_in_threadpool(writer.stop)
            await run_in_threadpool(clock.stop)
            await run_in_threadpool(uploads.stop)
            await run_in_threadpool(app.state.workers.stop)
            work_engine.dispose()
            own_engine.dispose()
            writer_engine.dispose()
            engine.dispose()

    app = Server(
        title="Wayleave",
        lifespan=lifespan,
        docs_url=None,
        redoc_url=None,
        openapi_url=None,
        routes=ingest.routes(),
    )
    app.reports = ReportEndpoint(ingest)
    app.state.settings = settings
    app.state.engine = engine
    app.state.writer = app.state.clock = None
    app.state.workers = Workers(work_engine)
    app.state.sealer = Sealer(keys.sealing_key())
    app.state.sign_on = find_provider(settings)
    app.add_exception_handler(AppError, _answer_app_error)  # type: ignore[arg-type]  # it is given this kind of error alone
    app.add_exception_handler(HTTPException, _answer_http_error)  # type: ignore[arg-type]  # it is given this kind of error alone
    app.add_exception_handler(RequestValidationError, _answer_validation_error)  # type: ignore[arg-type]  # it is given this kind of error alone
    app.add_exception_handler(SQLAlchemyError, _answer_database_error)  # type: ignore[arg-type]  # it is given this kind of error alone
    app.add_api_route("/healthz", _healthz, include_in_schema=False)
    app.add_api_route("/readyz", _readyz, include_in_schema=False)
    install_pages(app)
    app.add_middleware(AdmissionGate, places=settings.requests_in_flight, refuse_people=answer_busy)
    return app


def _keeping(settings: Settings) -> Keeping:
    """What the work by the clock needs of the settings."""
    key = settings.audit_webhook_key
    return Keeping(
        silent_after_days=settings.silent_after_days,
        retention_days=settings.retention_days,
        audit_to=Destinations(
            syslog=settings.audit_syslog,
            webhook=settings.audit_webhook,
            webhook_key=key.get_secret_value() if key is not None else "",
        ),
        notice_from=Thresholds(
            users=settings.notice_users,
            share=settings.notice_share,
            hosts=settings.notice_hosts,
            days=settings.notice_days,
        ),
        notice_to=_told(settings),
    )


def _told(settings: Settings) -> Told:
    """Where notices go besides the page."""
    key, password = settings.notice_webhook_key, settings.notice_smtp_password
    return Told(
        webhook=settings.notice_webhook,
        webhook_key=key.get_secret_value() if key is not None else "",
        mail=MailWay(
            server=settings.notice_smtp,
            sender=settings.notice_mail_from,
            recipients=settings.mail_recipients,
            user=settings.notice_smtp_user,
            password=password.get_secret_value() if password is not None else "",
        )
        if settings.notice_smtp
        else None,
        base_url=settings.public_url,
    )


def _standard_groups(engine: Engine) -> int:
    """Makes the groups that every installation has; the Linux group's id."""
    with session_scope(engine) as session:
        return make_standard_groups(session)[1]


def _healthz() -> PlainTextResponse:
    """The process answers."""
    return PlainTextResponse("ok\n")


def _readyz(request: Request) -> Response:
    """The database answers and has our tables, and the threads are there that write reports and work by the clock."""
    state = request.app.state
    faults = find_faults(state.engine, state.writer, state.clock)
    if faults:
        return PlainTextResponse("\n".join([*faults, ""]), status_code=503, headers={"Retry-After": "5"})
    return PlainTextResponse("ready\n")


def _answer_app_error(request: Request, error: AppError) -> Response:
    """Machines get JSON; people's pages are rendered by the web part, if it is there."""
    headers = {"Retry-After": str(error.retry_after_s)} if error.retry_after_s is not None else {}
    render = getattr(request.app.state, "render_error", None)
    if render is not None and not request.url.path.startswith("/api/"):
        response: Response = render(request, error)
        response.headers.update(headers)
        return response
    return JSONResponse(error.to_json(), status_code=error.status, headers=headers)


def _answer_http_error(request: Request, error: HTTPException) -> Response:
    codes = {404: "not_found", 405: "method_not_allowed", 403: "forbidden", 401: "unknown"}
    answer = AppError(str(error.detail), status=error.status_code, code=codes.get(error.status_code, "http_error"))
    response = _answer_app_error(request, answer)
    response.headers.update(error.headers or {})
    return response


def _answer_validation_error(request: Request, error: RequestValidationError) -> Response:
    first = error.errors()[0]
    field = ".".join(str(part) for part in first["loc"][1:]) or None
    return _answer_app_error(request, InvalidError(f"{field or 'request'}: {first['msg']}", field=field))


def _answer_database_error(request: Request, error: SQLAlchemyError) -> Response:
    """A page that the database could not serve: say so and when to come back. The cause goes to the log."""
    log.error("database error on %s: %s", request.url.path, error.__class__.__name__, exc_info=error)
    return _answer_app_error(request, BusyError("The database does not answer.", retry_after_s=5))
