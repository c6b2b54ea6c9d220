"""`wayleave serve`: run the server; at its first start, say how to get in and how to connect an agent."""

from __future__ import annotations

import os
import resource
import socket
from datetime import UTC, datetime, timedelta

import click
import uvicorn
from sqlalchemy import Engine, func, select
from uvicorn.supervisors import Multiprocess

from app.accounts.invitations import create_first_admin_link
from app.cli.database import opened_database, read_settings
from app.db.session import session_scope
from app.fleet.groups import make_standard_groups
from app.fleet.tables import Host
from app.ingest.connections import UNACCEPTED, UNANSWERED_BEYOND, BoundedProtocol, share_listener
from app.ingest.enrolment import create_enrolment_secret
from app.ingest.keys import load_keys
from app.settings import SUPERVISOR, Settings

OWN_FILES = 200
"""Of the database, imports and the server's own, at most."""
FIRST_SECRET_USES = 25
FIRST_SECRET_DAYS = 7


@click.command()
@click.option("--host", help="The address to listen on (WAYLEAVE_HOST; 127.0.0.1).")
@click.option(
    "--port", type=click.IntRange(0, 65535), help="The port to listen on, 0 for a free one (WAYLEAVE_PORT; 8000)."
)
@click.option(
    "--workers", type=click.IntRange(min=1), default=1, show_default=True, help="Processes (PostgreSQL only)."
)
def command(host: str | None, port: int | None, workers: int) -> None:
    """Run the server. SQLite is migrated at the start; PostgreSQL by `wayleave db upgrade`."""
    settings = read_settings(host=host, port=port)
    if workers > 1 and settings.is_sqlite:
        raise click.UsageError(
            "SQLite has one writing process: --workers above 1 needs PostgreSQL (WAYLEAVE_DATABASE_URL)."
        )
    listener = _listen(settings)
    port = listener.getsockname()[1]
    settings = read_settings(host=settings.host, port=port)
    with opened_database(settings) as engine:
        load_keys(settings)
        greet(engine, settings)
    _allow_files(settings)
    # The worker processes read their settings from the environment.
    os.environ["WAYLEAVE_HOST"], os.environ["WAYLEAVE_PORT"] = settings.host, str(port)
    os.environ[SUPERVISOR] = str(os.getpid())
    config = uvicorn.Config(
        "app.supervised:create_supervised_app" if workers > 1 else "app.main:create_app",
        factory=True,
        workers=workers,
        http=BoundedProtocol,
        ws="none",
        access_log=False,
        server_header=False,
        log_level="warning",
        timeout_keep_alive=75,
        timeout_graceful_shutdown=10,
        # A process that has much to do answers late, and is not stuck. But one that is killed while it is asked is only
        # missed after this time.
        timeout_worker_healthcheck=15,
        backlog=UNACCEPTED,
        host=settings.host,
        port=port,
    )
    said = f"Wayleave listens on {settings.public_url} (Ctrl+C ends it)."
    server = _Announcing(config, said)
    try:
        if workers > 1:
            # Who comes before the processes are up waits, and is not refused.
            listener.listen(config.backlog)
            click.echo(said)
            Multiprocess(config, sockets=share_listener(listener)).run()
            return
        server.run(sockets=share_listener(listener))
    except KeyboardInterrupt:
        # The signal is raised once more after an orderly end.
        return
    if server.has_failed:
        raise click.ClickException("The server could not start; the lines above say why.")


class _Announcing(uvicorn.Server):
    """Says where it listens once it does."""

    def __init__(self, config: uvicorn.Config, said: str) -> None:
        super().__init__(config)
        self._said = said
        self.has_failed = False

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        if self.started:
            click.echo(self._said)
        else:
            self.has_failed = True


def greet(engine: Engine, settings: Settings) -> None:
    """Prints the one-time link for the first administrator, and while there is no host, how to connect one."""
    with session_scope(engine) as session:
        make_standard_groups(session)
        link = create_first_admin_link(session, settings.public_url)
        if link is None:
            return
        click.echo("Nobody can sign in yet. Create the first administrator at (once, and only with this link):")
        click.echo(f"  {link}")
        if session.scalar(select(func.count()).select_from(Host)) == 0:
            secret = create_enrolment_secret(
                session,
                uses=FIRST_SECRET_USES,
                expires_at=datetime.now(UTC) + timedelta(days=FIRST_SECRET_DAYS),
                note="printed at the first start",
            )
            click.echo(f"Connect an agent (up to {FIRST_SECRET_USES} hosts within {FIRST_SECRET_DAYS} days):")
            click.echo(f"  wayleave-agent enrol --server {settings.public_url} --secret {secret}")


def _allow_files(settings: Settings) -> None:
    """As many open files as this process may have: each connection is one."""
    _soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    wanted = int(settings.connections * UNANSWERED_BEYOND) + OWN_FILES
    if hard < wanted:
        click.echo(
            f"This process may open {hard} files; {settings.connections} connections (WAYLEAVE_CONNECTIONS) need"
            f" {wanted}. Raise the limit (LimitNOFILE=, ulimit -Hn) or set fewer.",
            err=True,
        )


def _listen(settings: Settings) -> socket.socket:
    """The listening socket, before anything is printed that would be wrong if the port were taken."""
    try:
        info = socket.getaddrinfo(settings.host, settings.port, type=socket.SOCK_STREAM)[0]
        listener = socket.socket(info[0], info[1])
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(info[4])
    except OSError as error:
        raise click.ClickException(f"Can't listen on {settings.host}:{settings.port}: {error.strerror}") from error
    listener.set_inheritable(True)
    return listener
