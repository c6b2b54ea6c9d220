"""The real server in a thread, a real Chromium beside it, and what a page must never do."""

from __future__ import annotations

import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from types import ModuleType
from urllib.parse import urlsplit

import pytest
import uvicorn
from fastapi import FastAPI
from playwright.sync_api import Browser, BrowserContext, ConsoleMessage, Error, Page, sync_playwright

from app.accounts.create import count_accounts, create_account
from app.all_tables import metadata
from app.audit.record import Actor
from app.db.base import now
from app.db.session import session_scope
from app.fleet.make import make_fleet
from app.imports.model import Given
from app.imports.uploads import accept_upload, uploads_dir
from app.main import create_app
from app.notices.made import watch_days
from app.notices.record import Found, open_notice
from app.policies.base_policies import add_base_policy
from app.policies.export import plan_export
from app.policies.package import export_rule_set
from app.policies.queries_rule_sets import get_rule_set
from app.policies.record_export import record_export
from app.policies.review import approve, review_of, submit_for_review
from app.policies.rule_sets import Group, add_to_rule_set, choose_for_item, set_terms
from app.policies.simulations import ask_for_simulation, run_simulation
from app.settings import Settings, bundled

CHROMIUM = Path("/usr/bin/chromium")
DESKTOP = {"width": 1280, "height": 860}
SID = "S-1-5-21-1004336348-1177238915-682003330-1234"
BASE_POLICY = """<AppLockerPolicy Version="1"><RuleCollection Type="Exe" EnforcementMode="Enabled">
<FilePathRule Id="921cc481-6e17-4653-8f75-050b80acca20" Name="Programs" Description="" UserOrGroupSid="S-1-1-0"
Action="Allow"><Conditions><FilePathCondition Path="%PROGRAMFILES%\\*"/></Conditions></FilePathRule>
</RuleCollection></AppLockerPolicy>"""
EMAIL, PASSWORD = "ada@example.com", "correct horse battery"


@dataclass(kw_only=True)
class Site:
    """A running server: its address and the application in it."""

    url: str
    app: FastAPI


@dataclass(kw_only=True)
class Watch:
    """What a page did that it must not: errors in its console, requests to elsewhere."""

    origin: str
    console: list[str] = field(default_factory=list)
    foreign: list[str] = field(default_factory=list)
    requests: list[str] = field(default_factory=list)

    def attach(self, page: Page) -> None:
        page.on("console", self._note_console)
        page.on("pageerror", lambda error: self.console.append(f"pageerror: {error}"))
        page.on("request", lambda request: self._note_request(request.url))

    def _note_console(self, message: ConsoleMessage) -> None:
        # An answer with an error status is noted by Chromium itself; pages that show such an answer are wanted here.
        if message.type in ("error", "warning") and "the server responded with a status of" not in message.text:
            self.console.append(f"{message.type}: {message.text}")

    def _note_request(self, url: str) -> None:
        self.requests.append(url)
        parts = urlsplit(url)
        if parts.scheme not in ("data", "blob") and f"{parts.scheme}://{parts.netloc}" != self.origin:
            self.foreign.append(url)


def serve(app: FastAPI) -> tuple[uvicorn.Server, threading.Thread, str]:
    """Run an application on a free port of this machine until its `should_exit` is set."""
    listener = socket.socket()
    listener.bind(("127.0.0.1", 0))
    server = uvicorn.Server(uvicorn.Config(app, log_level="warning", ws="none"))
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]}, daemon=True)
    thread.start()
    deadline = time.monotonic() + 20
    while not server.started:
        assert time.monotonic() < deadline, "the server did not start"
        time.sleep(0.02)
    return server, thread, f"http://127.0.0.1:{listener.getsockname()[1]}"


@pytest.fixture(scope="session")
def chromium() -> Iterator[Browser]:
    if not CHROMIUM.exists():
        pytest.skip("needs chromium")
    if not (bundled("static") / "vendor" / "htmx" / "htmx.min.js").exists():
        pytest.skip("needs npm (run `make env` to fill static/vendor)")
    with sync_playwright() as playwright:
        try:
            browser = playwright.chromium.launch(executable_path=str(CHROMIUM), args=["--no-sandbox"])
        except Error as error:  # a Chromium that can't start is as good as none, and its reason is worth reading
            pytest.skip(f"needs chromium ({str(error).splitlines()[0]})")
        yield browser
        browser.close()


@pytest.fixture(scope="session")
def fleet() -> ModuleType:
    """The small fleet of the pages' own tests."""
    spec = spec_from_file_location("small_fleet", Path(__file__).parents[1] / "app" / "web" / "small_fleet.py")
    assert spec is not None
    assert spec.loader is not None
    module = module_from_spec(spec)
    sys.modules[spec.name] = module  # its dataclasses look themselves up
    spec.loader.exec_module(module)
    return module


@contextmanager
def running_site(data_dir: Path) -> Iterator[Site]:
    """A server on a database of its own, as after its first start."""
    app = create_app(Settings(data_dir=data_dir, database_url="", base_url=""))
    metadata().create_all(app.state.engine)
    server, thread, url = serve(app)
    try:
        yield Site(url=url, app=app)
    finally:
        server.should_exit = True
        thread.join(20)


@pytest.fixture
def empty_site(chromium: Browser, tmp_path: Path) -> Iterator[Site]:
    """A server with nothing in it."""
    with running_site(tmp_path) as site:
        yield site


def make_rule_set(app: FastAPI) -> None:
    """Rule set 1: approved, exported for its pilot."""
    analyst, approver = (Actor(kind="account", name=f"{one}@example.com") for one in ("analyst", "approver"))
    engine = app.state.engine
    with session_scope(engine) as session:
        made = add_to_rule_set(session, workflows=["sync-build", "uvx"], actor=analyst).rule_set_id
        base = add_base_policy(session, BASE_POLICY.encode(), name="Workstations", actor=analyst)
        groups, pilot = [Group(sid=SID, name="Developers")], [Group(sid=f"{SID}5", name="Pilot")]
        set_terms(session, made, base_id=base.id, groups=groups, pilot=pilot, actor=analyst)
        choose_for_item(session, made, "cache-archive-env-python", kind="broad", actor=analyst)
        simulation = ask_for_simulation(session, made, actor=analyst)
    run_simulation(engine, simulation)
    with session_scope(engine) as session:
        submit_for_review(session, made, actor=analyst)
        digest = review_of(session, get_rule_set(session, made)).digest
        assert digest is not None
        approve(session, made, digest=digest, actor=approver)
        export_rule_set(session, made, delivery="same-gpo", ring="pilot", actor=analyst)


def make_import(app: FastAPI, folder: Path) -> None:
    """Import 1: a list of events of which none is of uv, and one line that is none; the server reads it."""
    file = folder / "events.csv"
    lines = (r"2026-11-20T08:00:00Z,PC-1,8004,C:\Tools\x.exe", r"yesterday,PC-1,8004,C:\Tools\y.exe")
    file.write_text("\n".join(("TimeGenerated,Computer,EventID,FilePath", *lines)) + "\n")
    given = Given(computer="", event_type="", at=1_763_683_200_000)
    who = Actor(kind="account", name=EMAIL)
    uploads_dir(app.state.settings.data_dir).mkdir(exist_ok=True)
    assert accept_upload(app.state.engine, app.state.settings, file, name=file.name, given=given, actor=who) == 1


def make_notice(app: FastAPI) -> None:
    """Notice 1: a policy that closed a command for two groups."""
    change = {"what": "policy", "before": "5f1c09aa", "after": "e20b7d41", "users": 18, "before_id": 1, "after_id": 2}
    groups = [
        {"id": 2, "name": "Sales", "users": 14, "closed": 17, "of": 40},
        {"id": 3, "name": "Finance", "users": 6, "closed": 6, "of": 31},
    ]
    detail = {
        "workflows": ["sync-wheels", "run-python"],
        "patterns": ["venv-python"],
        "groups": groups,
        "evidence": {"looked_at": 20, "users": 20, "hosts": 19, "changes": [change], "kinds": [["policy", 18]]},
    }
    title = "uv run python, uv sync are blocked for 20 users for whom they were open: the policy in force changed"
    found = Found(kind="regression", key="regression:policy", title=title, users=20, detail=detail)
    with session_scope(app.state.engine) as session:
        open_notice(session, found, now(), ways=("email",))


@pytest.fixture(scope="session")
def fleet_site(chromium: Browser, tmp_path_factory: pytest.TempPathFactory, fleet: ModuleType) -> Iterator[Site]:
    """A server to which a small fleet has reported; tests only look at it."""
    with running_site(tmp_path_factory.mktemp("fleet")) as site:
        fleet.report_to(site.url, site.app, fleet.machines())
        with session_scope(site.app.state.engine) as session:
            record_export(session, plan_export(["venv-python", "uv-exe-standalone"], SID))
        make_rule_set(site.app)
        make_notice(site.app)
        make_import(site.app, tmp_path_factory.mktemp("import"))
        yield site


@pytest.fixture(scope="session")
def made_site(chromium: Browser, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """A server with the made fleet of `make demo`."""
    with running_site(tmp_path_factory.mktemp("made")) as site:
        make_fleet(site.app.state.engine, 2000, seed=1, story=True, each_day=watch_days())
        yield site


@pytest.fixture
def sign_in() -> Callable[[Page, Site], None]:
    """Signs a page in as the administrator, made where there is none."""

    def sign_in_by_form(page: Page, site: Site) -> None:
        with session_scope(site.app.state.engine) as session:
            if count_accounts(session) == 0:
                create_account(session, EMAIL, PASSWORD, "administrator")
        page.goto("/login")
        page.get_by_label("E-mail address").fill(EMAIL)
        page.get_by_label("Password").fill(PASSWORD)
        page.get_by_role("button", name="Sign in").click()
        page.wait_for_url(site.url + "/")

    return sign_in_by_form


@pytest.fixture
def open_page(chromium: Browser) -> Iterator[Callable[..., tuple[Page, Watch]]]:
    """Opens pages of a site in a context of their own, each watched; at the end nothing forbidden may have happened."""
    contexts: list[BrowserContext] = []
    watches: list[Watch] = []

    def open_one(
        site: Site,
        *,
        theme: str = "light",
        size: dict[str, int] | None = None,
        javascript: bool = True,
        zone: str | None = None,
    ) -> tuple[Page, Watch]:
        context = chromium.new_context(
            base_url=site.url,
            viewport=size or DESKTOP,
            color_scheme=theme,
            java_script_enabled=javascript,
            reduced_motion="reduce",
            timezone_id=zone,
        )
        contexts.append(context)
        page = context.new_page()
        watch = Watch(origin=site.url)
        watch.attach(page)
        watches.append(watch)
        return page, watch

    yield open_one
    for context in contexts:
        context.close()
    for watch in watches:
        assert watch.console == []
        assert watch.foreign == []
