"""What the error number of a start means: never its text, which Windows translates. Pure.

source: applocker, error codes that a blocked CreateProcess returns; uv-paths, Windows error codes that mean "blocked".
"""

from __future__ import annotations

import errno
from collections.abc import Mapping
from dataclasses import dataclass

from agent.contract.facts import Engine, Outcome

POLICY_ERRORS = frozenset((1260, 786))
"""AppLocker or software restriction policies; the number alone does not say which."""

TRANSIENT_ERRORS = frozenset(
    (
        8,  # not enough memory
        14,  # out of memory
        32,  # sharing violation: an antivirus scan, mostly
        33,  # lock violation
        112,  # disk full
        170,  # busy
        1450,  # no system resources
        1455,  # paging file too small
    )
)
"""These say something of the moment and nothing of a policy: the last outcome stays."""

TRANSIENT_ERRNOS = frozenset(
    (errno.ETXTBSY, errno.EAGAIN, errno.ENOMEM, errno.ENFILE, errno.EMFILE, errno.EINTR, errno.ENOSPC, errno.EDQUOT)
)

_JUDGEMENTS: Mapping[int, tuple[Outcome, Engine | None]] = {
    0: (Outcome.ALLOWED, None),
    2: (Outcome.ABSENT, None),  # no such file
    3: (Outcome.ABSENT, None),  # no such path
    5: (Outcome.DENIED, Engine.UNKNOWN),  # an access list, attack surface reduction, controlled folders: not told
    225: (Outcome.BLOCKED, Engine.ANTIVIRUS),
    226: (Outcome.BLOCKED, Engine.ANTIVIRUS),
    577: (Outcome.BLOCKED, Engine.WDAC),  # the image's hash is not valid
    1259: (Outcome.BLOCKED, Engine.OTHER),  # application compatibility
    1277: (Outcome.BLOCKED, Engine.OTHER),
    1278: (Outcome.BLOCKED, Engine.OTHER),
    **dict.fromkeys((*range(4550, 4560), *range(4580, 4584)), (Outcome.BLOCKED, Engine.WDAC)),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Engines:
    """Which engines are known to have rules for the collection that a start is judged by."""

    applocker: bool = False
    srp: bool = False


def judge_error(error: int, engines: Engines) -> tuple[Outcome, Engine | None] | None:
    """Outcome and engine of a Windows error number; None if it is transient and the last outcome stays.

    >>> judge_error(1260, Engines(applocker=True))
    (<Outcome.BLOCKED: 'blocked'>, <Engine.APPLOCKER: 'applocker'>)
    >>> judge_error(32, Engines()) is None
    True
    """
    if error in TRANSIENT_ERRORS:
        return None
    if error in POLICY_ERRORS:
        return Outcome.BLOCKED, _policy_engine(engines)
    return _JUDGEMENTS.get(error, (Outcome.ERROR, None))


def judge_errno(error: int, *, mode_allows: bool) -> tuple[Outcome, Engine | None] | None:
    """Outcome and engine of an errno of execve on Linux; None if it is transient.

    `mode_allows`: the file's mode lets the user execute it, so that a refusal is a policy's (a noexec mount,
    Landlock, fapolicyd, a security module), else plain permissions are why.
    """
    if error == 0:
        return Outcome.ALLOWED, None
    if error in TRANSIENT_ERRNOS:
        return None
    if error in (errno.ENOENT, errno.ENOTDIR):
        return Outcome.ABSENT, None
    if error in (errno.EACCES, errno.EPERM):
        return (Outcome.BLOCKED, Engine.OTHER) if mode_allows else (Outcome.DENIED, Engine.ACL)
    return Outcome.ERROR, None


@dataclass(frozen=True, slots=True, kw_only=True)
class SaferAnswer:
    """What the system said of a script.

    `identified`: SaferIdentifyLevel found a level for it; `computed`: SaferComputeTokenFromLevel succeeded;
    `restricts`: it gave a token, a lesser one than the caller's. `error`: the number of the call that failed, else 0.
    """

    identified: bool
    computed: bool = False
    restricts: bool = False
    error: int = 0


def judge_safer(answer: SaferAnswer, engines: Engines) -> tuple[Outcome, Engine | None] | None:
    """What PowerShell would make of the system's answer: None if it says something of the moment alone.

    source: PowerShell, System.Management.Automation, security/SecuritySupport.cs, GetSaferPolicy: a level that gives no
    token of its own (SAFER_TOKEN_NULL_IF_EQUAL) lets the script run in full, any other and the errors 1260 and 786 do
    not; every other failure is no answer.

    >>> judge_safer(SaferAnswer(identified=True, computed=True), Engines())
    (<Outcome.ALLOWED: 'allowed'>, None)
    >>> judge_safer(SaferAnswer(identified=True, computed=True, restricts=True), Engines(applocker=True))
    (<Outcome.BLOCKED: 'blocked'>, <Engine.APPLOCKER: 'applocker'>)
    """
    if answer.identified and answer.computed:
        return (Outcome.BLOCKED, _policy_engine(engines)) if answer.restricts else (Outcome.ALLOWED, None)
    return judge_error(answer.error or -1, engines)


def judge_placing(error: int, *, is_windows: bool) -> tuple[Outcome, Engine | None] | None:
    """Outcome of not being able to put a canary where uv would put a program; None if transient."""
    if error in (TRANSIENT_ERRORS if is_windows else TRANSIENT_ERRNOS):
        return None
    if error in ((5, 19) if is_windows else (errno.EACCES, errno.EPERM, errno.EROFS)):
        return Outcome.DENIED, Engine.ACL
    return Outcome.ERROR, None


_SEVERITY = (
    Outcome.BLOCKED,
    Outcome.AUDITED,
    Outcome.DENIED,
    Outcome.ERROR,
    Outcome.UNKNOWN,
    Outcome.ALLOWED,
    Outcome.ABSENT,
)


def severity(outcome: Outcome) -> int:
    """How much an outcome weighs where several files stand for one pattern: 0 weighs most."""
    return _SEVERITY.index(outcome)


def _policy_engine(engines: Engines) -> Engine:
    # With AppLocker rules for the collection in force, Windows does not ask the software restriction policies.
    if engines.applocker:
        return Engine.APPLOCKER
    return Engine.SRP if engines.srp else Engine.UNKNOWN
