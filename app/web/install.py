"""Puts the pages on the application: routes, static files, error pages, and the middleware they need."""

from __future__ import annotations

from fastapi import FastAPI
from starlette.middleware.gzip import GZipMiddleware
from starlette.types import ASGIApp, Receive, Scope, Send

from app.settings import bundled
from app.web.assets import STATIC_PATH, HashedStaticFiles
from app.web.cross_site import RefuseCrossSite
from app.web.errors import install_error_pages
from app.web.headers import SecurityHeaders
from app.web.limits import LimitForms
from app.web.pages import (
    account,
    accounts,
    agents,
    api,
    api_fleet,
    api_people,
    api_rules,
    audit,
    baseline,
    blocked,
    codes,
    export,
    exports,
    exports_after,
    groups,
    health,
    host_actions,
    host_files,
    hosts,
    imports,
    jobs,
    login,
    notices,
    overview,
    patterns,
    policies,
    preflight,
    probing,
    relocation,
    removals,
    requests,
    rule_sets,
    rule_sets_export,
    rule_sets_plan,
    rule_sets_review,
    rule_sets_ways,
    search,
    settings,
    sightings,
    sso,
    tokens,
    versions,
    work,
    workflows,
)
from app.web.pages.blocked import prepare_blocked

ROUTERS = (
    login.router,
    sso.router,
    blocked.router,
    requests.router,
    preflight.router,
    preflight.api_router,
    relocation.router,
    relocation.api_router,
    overview.router,
    notices.router,
    notices.api_router,
    patterns.router,
    host_files.router,
    host_actions.router,
    hosts.router,
    versions.router,
    sightings.router,
    groups.router,
    search.router,
    search.api_router,
    workflows.router,
    workflows.api_router,
    policies.router,
    baseline.router,
    baseline.api_router,
    rule_sets.router,
    rule_sets_plan.router,
    rule_sets_plan.api_router,
    rule_sets_export.router,
    rule_sets_export.api_router,
    rule_sets_review.router,
    rule_sets_ways.router,
    rule_sets_ways.api_router,
    export.router,
    exports.router,
    exports.api_router,
    exports_after.router,
    exports_after.api_router,
    removals.router,
    removals.api_router,
    account.router,
    codes.router,
    accounts.router,
    agents.router,
    imports.router,
    probing.router,
    probing.api_router,
    tokens.router,
    jobs.router,
    work.router,
    work.api_router,
    settings.router,
    health.router,
    audit.router,
    api_fleet.router,
    api_people.router,
    api.router,
    api_rules.router,
)


class CompressPages:
    """Compresses pages and static files; what agents are answered is small and stays as it is."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app
        self.compressing = GZipMiddleware(app, minimum_size=800, compresslevel=5)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        is_page = scope["type"] == "http" and not scope["path"].startswith("/api/")
        await (self.compressing if is_page else self.app)(scope, receive, send)


def install(app: FastAPI) -> None:
    """Put everything for people on the application. Error handlers for programs' paths answer JSON."""
    app.mount(STATIC_PATH, HashedStaticFiles(bundled("static")), name="static")
    for router in ROUTERS:
        app.include_router(router)
    prepare_blocked(app)
    install_error_pages(app)
    # The one added last is asked first.
    app.add_middleware(CompressPages)
    app.add_middleware(LimitForms)
    app.add_middleware(RefuseCrossSite)
    app.add_middleware(SecurityHeaders)
