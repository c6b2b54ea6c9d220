"""Becoming known to a server: the secret goes there once, the identity stays here."""

from __future__ import annotations

import time
from pathlib import Path

from agent import __version__
from agent._platform import read_host, read_machine_id
from agent.client import check_server, enrol, open_client
from agent.contract.messages import Refused
from agent.kept import NAME
from agent.spool import (
    Identity,
    Progress,
    hash_machine,
    load_pending,
    load_progress,
    locked,
    new_epoch,
    save_identity,
    save_progress,
)


def enrol_here(
    state_dir: Path, server: str, secret: str, *, ca_file: Path | None = None, insecure: bool = False
) -> Identity | Refused:
    """Exchange a secret for an identity and keep it; what waited under an earlier one is dropped.

    raises: ValueError for an address that is none, NoAnswer, AgentBusy, OSError
    """
    address = check_server(server, insecure=insecure)
    host = read_host(__version__)
    with locked(state_dir):
        with open_client(address, ca_file=ca_file) as http:
            answer = enrol(http, secret, name=host.name, system=host.os)
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
            machine=hash_machine(read_machine_id()),
            secret=secret,
            ca_file=str(ca_file) if ca_file else None,
            catalogue_key=answer.catalogue_key,
        )
        save_identity(state_dir, identity)
    return identity
