"""The page "Blocked?", open to everybody: somebody pastes what uv printed and reads what was refused and what helps.

Nothing of the text is stored or logged, and none of it comes back but the path of the file that was refused. A
request for access, which the person sends with a button, carries the pattern and the engine, not the text.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from anyio import CapacityLimiter, to_thread
from fastapi import APIRouter, FastAPI, Request
from starlette.responses import Response

from agent.catalogue import Workflow
from agent.catalogue import load as load_catalogue
from app.db.session import session_scope
from app.diagnosis import Advice, Diagnosis, Finding, diagnose, without_advice
from app.errors import NotFoundError, TooLargeError
from app.requests.queries import Group, find_groups
from app.requests.record import ENGINES, MAX_CONTACT_CHARS, MAX_MESSAGE_CHARS
from app.web.guards import client_address, signed_in_person
from app.web.pasted import parse_fields, read_body, visible
from app.web.rate import RateLimit
from app.web.templating import render

router = APIRouter(include_in_schema=False)

MAX_TEXT_CHARS = 200_000
# A character outside ASCII is nine bytes in a form's encoding.
MAX_BODY_BYTES = 2_000_000
MAX_FINDINGS = 12
BURST = 20
EVERY_S = 6.0
READERS = 2
# A dozen requests a day of one client are enough.
ASK_BURST = 5
ASK_EVERY_S = 2 * 3600.0

TOO_LARGE = (
    "This is more than can be read here. Paste the end of the output, from the command you typed to the error: "
    f"up to {MAX_TEXT_CHARS:,} characters."
)
EMPTY = "There is nothing to read yet: paste all that the command printed."

ENGINE_WORDS = {
    "applocker-or-srp": "AppLocker, or Software Restriction Policies",
    "applocker-or-wdac": "AppLocker’s Script rules, or App Control",
    "wdac": "App Control (WDAC, or Smart App Control)",
    "antivirus": "a virus scanner",
    "other": "another policy of Windows",
    "unknown": "not certain: a policy, permissions or a virus scanner",
}
CERTAINTY_WORDS = {
    "certain": "certain",
    "likely": "likely",
    "possible": "possible, the same text may have another cause",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class ShownFinding:
    """A finding in words. `pattern` is (id, title) if it is one of uv's places."""

    path: str | None
    pattern: tuple[str, str] | None
    certainty: str
    explanation: str
    workflow: Workflow | None
    for_developer: tuple[str, ...]
    for_administrator: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """A diagnosis in words. `state` is a badge of the pages: blocked, unknown, or open when nothing was blocked."""

    title: str
    state: str
    reason: str
    engine: str | None
    error_code: int | None
    findings: tuple[ShownFinding, ...]
    left_out: int


@dataclass(frozen=True, slots=True, kw_only=True)
class AskForm:
    """A request for access as the form has it. `patterns`: ids, "" for a file that is none of uv's."""

    engine: str
    patterns: tuple[str, ...]
    workflow: str
    contact: str = ""
    message: str = ""


def prepare_blocked(app: FastAPI) -> None:
    """Give an application its own bounds: how often one client may ask, and how many texts are read at once."""
    app.state.blocked_limit = RateLimit(burst=BURST, every_s=EVERY_S)
    app.state.ask_limit = RateLimit(burst=ASK_BURST, every_s=ASK_EVERY_S)
    app.state.blocked_readers = CapacityLimiter(READERS)


@router.get("/blocked")
def show_blocked(request: Request) -> Response:
    require_page(request)
    return page(request)


@router.post("/blocked")
async def answer_blocked(request: Request) -> Response:
    """Asynchronous, unlike other pages: who may not ask is told so before the text is read."""
    require_page(request)
    wait_s = limit_of(request).take(client_address(request))
    if wait_s:
        return await to_thread.run_sync(lambda: refuse_often(request, wait_s))
    try:
        body = await read_body(request, limit_bytes=MAX_BODY_BYTES)
    except TooLargeError:
        return await to_thread.run_sync(lambda: _refuse_length(request, 413))
    # Reading is work: it never takes more than two of the threads that other pages need.
    return await to_thread.run_sync(lambda: _answer(request, body), limiter=readers_of(request))


def _answer(request: Request, body: bytes) -> Response:
    text = parse_fields(body).get("text", [""])[0]
    if len(text) > MAX_TEXT_CHARS:
        return _refuse_length(request, 422)
    if not text.strip():
        return page(request, status=422, problem=EMPTY)
    diagnosis = diagnose(text)
    ask = form_for(diagnosis)
    known: dict[str, Group] = {}
    if ask is not None:
        with session_scope(request.app.state.engine, writes=False) as session:
            known = find_groups(session, ask.engine, ask.patterns)
    return page(request, answer=in_words(diagnosis), ask=ask, known=known)


def form_for(diagnosis: Diagnosis) -> AskForm | None:
    """What a person can ask access for; None if nothing was blocked, or by what no rule opens."""
    bare = without_advice(diagnosis)
    if bare.engine not in ENGINES or not bare.findings:
        return None
    shown = bare.findings[:MAX_FINDINGS]
    return AskForm(
        engine=bare.engine,
        patterns=tuple(dict.fromkeys(one.pattern or "" for one in shown)),
        workflow=next((one.workflow for one in shown if one.workflow), ""),
    )


def in_words(diagnosis: Diagnosis) -> Answer:
    """What the page says of a diagnosis."""
    if not diagnosis.blocked:
        reason = diagnosis.reason.removeprefix("Not a policy block: ").removeprefix("Not a policy block, ")
        title, state = "This is not a policy block", "open"
        reason = reason[:1].upper() + reason[1:]
    else:
        reason = diagnosis.reason
        title, state = {
            "antivirus": ("A virus scanner blocked this, not a policy", "blocked"),
            "unknown": ("A program was refused, perhaps by a policy", "unknown"),
        }.get(diagnosis.engine or "", ("A policy blocked this", "blocked"))
    return Answer(
        title=title,
        state=state,
        reason=visible(reason, length=1000),
        engine=ENGINE_WORDS.get(diagnosis.engine or ""),
        error_code=diagnosis.error_code,
        findings=tuple(_finding_in_words(one) for one in diagnosis.findings[:MAX_FINDINGS]),
        left_out=max(0, len(diagnosis.findings) - MAX_FINDINGS),
    )


def _finding_in_words(finding: Finding) -> ShownFinding:
    catalogue = load_catalogue()
    title = catalogue.pattern(finding.pattern).title if finding.pattern else ""
    return ShownFinding(
        path=visible(finding.path, length=400) if finding.path else None,
        pattern=(finding.pattern, title) if finding.pattern else None,
        certainty=CERTAINTY_WORDS[finding.certainty],
        explanation=visible(finding.explanation, length=600),
        workflow=catalogue.workflow(finding.workflow) if finding.workflow else None,
        for_developer=_advice_for("developer", finding.advice),
        for_administrator=_advice_for("administrator", finding.advice),
    )


def _advice_for(audience: str, advice: tuple[Advice, ...]) -> tuple[str, ...]:
    return tuple(visible(one.text, length=1000) for one in advice if one.audience == audience)


def require_page(request: Request) -> None:
    """raises: NotFoundError if the page is switched off"""
    if not request.app.state.settings.blocked_page:
        raise NotFoundError("The page “Blocked?” is switched off on this server.")


def limit_of(request: Request) -> RateLimit:
    """The application's limit of texts per client."""
    limit: RateLimit = request.app.state.blocked_limit
    return limit


def readers_of(request: Request) -> CapacityLimiter:
    """How many texts the application reads at once."""
    readers: CapacityLimiter = request.app.state.blocked_readers
    return readers


def refuse_often(request: Request, wait_s: int) -> Response:
    """The page's answer to a client that asks too often."""
    problem = f"You asked often in a short time. Nothing was read or stored. Try again in {wait_s} seconds."
    response = page(request, status=429, problem=problem)
    response.headers["Retry-After"] = str(wait_s)
    return response


def _refuse_length(request: Request, status: int) -> Response:
    response = page(request, status=status, problem=TOO_LARGE)
    if status == 413:
        response.headers["Connection"] = "close"  # the rest of the text is not read
    return response


def page(
    request: Request,
    *,
    status: int = 200,
    problem: str | None = None,
    answer: Answer | None = None,
    ask: AskForm | None = None,
    ask_problem: str | None = None,
    known: Mapping[str, Group] | None = None,
    sent: int | None = None,
    fragment: str = "answer",
) -> Response:
    """The page with what it says; in the frame of the site for somebody who is signed in.

    `known`: what was asked and answered for the patterns of `ask`; `sent`: how many ask for what was just asked for.
    """
    request.state.person = signed_in_person(request)
    return render(
        request,
        "blocked/page.html",
        fragment=fragment,
        status=status,
        problem=problem,
        answer=answer,
        ask=ask,
        ask_problem=ask_problem,
        known=known or {},
        sent=sent,
        max_chars=MAX_TEXT_CHARS,
        max_contact=MAX_CONTACT_CHARS,
        max_message=MAX_MESSAGE_CHARS,
    )
