"""Enrolment: secrets are made by administrators, exchanged once or a few times for a host's own token."""

from __future__ import annotations

import hashlib
import hmac
import ipaddress
import re
import secrets
from dataclasses import dataclass
from datetime import datetime
from typing import Annotated

from pydantic import Field, StringConstraints, TypeAdapter, ValidationError
from sqlalchemy import or_, select, update
from sqlalchemy.orm import Session
from typing_extensions import TypedDict

from app.db.base import now
from app.errors import InvalidError, MalformedError, UnauthenticatedError
from app.fleet.groups import DEFAULT_GROUP, LINUX_GROUP, get_or_make_group
from app.fleet.standing import HostState
from app.fleet.tables import Host, HostGroup
from app.ingest.tables import EnrolmentSecret

_SECRET = re.compile(r"wle_([0-9]{1,18})_([0-9A-Za-z_-]{20,100})")
_REFUSED = "This enrolment secret is not known, has expired or is used up."


@dataclass(frozen=True, slots=True, kw_only=True)
class EnrolmentRequest:
    """`account`: of a machine that is made anew at each start; by it the same host is found again."""

    secret: str
    name: str
    os: str
    account: str | None = None


class _Host(TypedDict, total=False):
    name: Annotated[str, StringConstraints(min_length=1, max_length=255, pattern=r"^[^\x00-\x1f\x7f]*$")]
    os: Annotated[str, StringConstraints(max_length=255, pattern=r"^[^\x00-\x1f\x7f]*$")]
    account: Annotated[str, StringConstraints(min_length=1, max_length=255, pattern=r"^[^\x00-\x1f\x7f]*$")] | None
    ephemeral: bool


class _Enrolment(TypedDict):
    contract: Annotated[int, Field(ge=1, le=2**31)]
    secret: Annotated[str, StringConstraints(max_length=200, pattern=r"^[^\x00-\x1f\x7f]*$")]
    host: _Host


_ENROLMENT = TypeAdapter(_Enrolment)


def decode_enrolment(text: bytes) -> EnrolmentRequest:
    """The body of an enrolment.

    raises: MalformedError when it is not JSON, InvalidError naming the field.
    """
    try:
        value = _ENROLMENT.validate_json(text, strict=True)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        if first["type"] == "json_invalid":
            raise MalformedError(f"not JSON: {first['msg']}", field="body") from None
        raise InvalidError(first["msg"], field=".".join(str(part) for part in first["loc"]) or None) from None
    if "name" not in value["host"]:
        raise InvalidError("A host needs a name.", field="host.name")
    host = value["host"]
    account = host.get("account") if host.get("ephemeral") else None
    return EnrolmentRequest(secret=value["secret"], name=host["name"], os=host.get("os", ""), account=account)


def create_enrolment_secret(
    session: Session,
    *,
    uses: int | None = 1,
    expires_at: datetime | None = None,
    network: str | None = None,
    group: str | None = None,
    note: str = "",
    trial: bool = False,
) -> str:
    """A new secret, shown only here. `group`: the name of the group of hosts that enrol with it (made if new).

    `trial`: for agents that users run themselves; what they report is never attested.

    raises: InvalidError for a network that is none.
    """
    if network is not None:
        try:
            network = str(ipaddress.ip_network(network, strict=False))
        except ValueError as error:
            raise InvalidError(f"Not a network like 10.1.0.0/16: {error}", field="network") from error
    home = get_or_make_group(session, group or DEFAULT_GROUP, "tag" if group else "default")
    secret = secrets.token_urlsafe(24)
    row = EnrolmentSecret(
        secret_hash=_hash(secret),
        group_id=home.id,
        uses_left=uses,
        expires_at=expires_at,
        network=network,
        note=note[:200],
        trial=trial,
        created_at=now(),
    )
    session.add(row)
    session.flush()  # its id is part of the secret
    return f"wle_{row.id}_{secret}"


def enrol(session: Session, request: EnrolmentRequest, *, address: str | None, quarantine: bool) -> tuple[int, str]:
    """A new host's id and its token, which is stored only as a hash.

    raises: UnauthenticatedError, the same whatever was wrong with the secret.
    """
    group_id, trial = _use_secret(session, request.secret, address)
    secret = secrets.token_urlsafe(32)
    is_linux = "linux" in request.os.lower()
    if is_linux:
        group_id = session.scalars(select(HostGroup.id).where(HostGroup.name == LINUX_GROUP)).one()
    if request.account is not None:
        known = _find_made_anew(session, request, group_id)
        if known is not None:
            known.token_hash = _hash(secret)
            return known.id, f"wl_{known.id}_{secret}"
    host = Host(
        group_id=group_id,
        state=HostState.QUARANTINED if quarantine else HostState.ACTIVE,
        token_hash=_hash(secret),
        trial=trial,
        ephemeral=request.account is not None,
        account_hash=_account_hash(request.account),
        enrolled_at=now(),
        name=request.name,
        platform="linux" if is_linux else "windows",
        os=request.os,
    )
    session.add(host)
    session.flush()  # its id is part of the token
    return host.id, f"wl_{host.id}_{secret}"


def _find_made_anew(session: Session, request: EnrolmentRequest, group_id: int) -> Host | None:
    """The host that this machine was before it was made anew: of the same account, and of hosts of its kind alone.

    raises: UnauthenticatedError if that host was revoked: to be made anew does not undo it.
    """
    host = session.scalar(
        select(Host)
        .where(Host.account_hash == _account_hash(request.account), Host.group_id == group_id, Host.ephemeral.is_(True))
        .order_by(Host.id)
        .limit(1)
    )
    if host is not None and host.state == HostState.REVOKED:
        raise UnauthenticatedError(_REFUSED, field="secret")
    return host


def _account_hash(account: str | None) -> bytes | None:
    return None if account is None else hashlib.sha256(b"account\n" + account.lower().encode()).digest()


def _use_secret(session: Session, secret: str, address: str | None) -> tuple[int, bool]:
    """The group that the secret enrols into, and whether it is for a trial; one use fewer is left."""
    match = _SECRET.fullmatch(secret)
    row = session.get(EnrolmentSecret, int(match[1])) if match is not None else None
    # The hash is compared also when there is no such row, so that ids can't be told by time.
    known = hmac.compare_digest(_hash(match[2]) if match else b"-" * 32, row.secret_hash if row else bytes(32))
    if row is None or not known or not _comes_from(row.network, address):
        raise UnauthenticatedError(_REFUSED, field="secret")
    at = now()
    used = session.execute(
        update(EnrolmentSecret)
        .where(
            EnrolmentSecret.id == row.id,
            EnrolmentSecret.revoked_at.is_(None),
            or_(EnrolmentSecret.expires_at.is_(None), EnrolmentSecret.expires_at > at),
            or_(EnrolmentSecret.uses_left.is_(None), EnrolmentSecret.uses_left > 0),
        )
        .values(uses_left=EnrolmentSecret.uses_left - 1)
        .execution_options(synchronize_session=False)
        .returning(EnrolmentSecret.group_id, EnrolmentSecret.trial)
    ).one_or_none()
    if used is None:
        raise UnauthenticatedError(_REFUSED, field="secret")
    return used.group_id, used.trial


def _comes_from(network: str | None, address: str | None) -> bool:
    if network is None:
        return True
    try:
        return address is not None and ipaddress.ip_address(address) in ipaddress.ip_network(network)
    except ValueError:
        return False


def _hash(secret: str) -> bytes:
    """A plain hash will do: the secrets are random and long, nothing can be guessed."""
    return hashlib.sha256(secret.encode()).digest()
