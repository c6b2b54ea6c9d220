"""Becoming known to a server: the secret goes there once, the identity stays here."""

from __future__ import annotations

import time
from dataclasses import replace
from pathlib import Path

from agent.client import check_server, enrol, open_client
from agent.contract.messages import Refused
from agent.cycle import newcomer, recognise_machine
from agent.kept import NAME
from agent.spool import (
    Identity,
    Progress,
    load_identity,
    load_pending,
    load_progress,
    locked,
    new_epoch,
    save_identity,
    save_progress,
)


def prepare_enrolment(
    state_dir: Path,
    server: str,
    secret: str,
    *,
    ca_file: Path | None = None,
    insecure: bool = False,
    ephemeral: bool = False,
) -> None:
    """Keep where and with what to enrol; the first report does it, whenever the network is there.

    An identity that stands for the same server stays as it is: installing anew keeps the token.

    raises: ValueError for an address that is none, AgentBusy, OSError
    """
    address = check_server(server, insecure=insecure)
    with locked(state_dir):
        known = load_identity(state_dir)
        if known is not None and known.token and known.server == address and not load_progress(state_dir).revoked:
            save_identity(state_dir, replace(known, secret=secret, ca_file=str(ca_file) if ca_file else known.ca_file))
            return
        save_progress(state_dir, Progress(epoch=new_epoch(load_progress(state_dir), now=time.time())))
        save_identity(
            state_dir,
            Identity(
                server=address,
                host_id="",
                token="",
                machine=recognise_machine(ephemeral=ephemeral),
                secret=secret,
                ca_file=str(ca_file) if ca_file else None,
            ),
        )


def enrol_here(
    state_dir: Path,
    server: str,
    secret: str,
    *,
    ca_file: Path | None = None,
    insecure: bool = False,
    ephemeral: bool = False,
) -> Identity | Refused:
    """Exchange a secret for an identity and keep it; what waited under an earlier one is dropped.

    raises: ValueError for an address that is none, NoAnswer, AgentBusy, OSError
    """
    address = check_server(server, insecure=insecure)
    with locked(state_dir):
        with open_client(address, ca_file=ca_file) as http:
            answer = enrol(http, secret, newcomer(ephemeral=ephemeral))
        if isinstance(answer, Refused):
            return answer
        for item in load_pending(state_dir):
            item.path.unlink(missing_ok=True)
        (state_dir / NAME).unlink(missing_ok=True)  # the catalogue of another server, signed by another key
        save_progress(state_dir, Progress(epoch=new_epoch(load_progress(state_dir), now=time.time())))
        identity = Identity(
            server=address,
            host_id=answer.host_id,
            token=answer.token,
            machine=recognise_machine(ephemeral=ephemeral),
            secret=secret,
            ca_file=str(ca_file) if ca_file else None,
            catalogue_key=answer.catalogue_key,
        )
        save_identity(state_dir, identity)
    return identity
