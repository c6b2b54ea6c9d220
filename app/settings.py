"""What an operator can set: environment variables that begin with WAYLEAVE_, each with a sane default."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated, Literal, Self
from urllib.parse import SplitResult, urlsplit

from pydantic import Field, SecretStr, model_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

PACKAGE = Path(__file__).parent
SUPERVISOR = "WAYLEAVE_SUPERVISOR"
"""The environment variable that tells the processes of `--workers` who started them."""


def bundled(name: str) -> Path:
    """The folder `templates`, `static` or `migrations`: inside the installed package, else in the checkout."""
    installed = PACKAGE / "_data" / name
    return installed if installed.is_dir() else PACKAGE.parent / name


_HOST = r"(?:\[[^\[\]@/?,]*\]|[^\[\]@/?:,]*)(?::[0-9]{1,5})?"
_POSTGRESQL = re.compile(
    rf"(?:postgres|postgresql|postgresql\+psycopg)://((?:[^:/]*(?::[^@]*)?@)?)({_HOST}(?:,{_HOST})*)(/[^?]*)?(?:\?(.*))?"
)


def address_of_database(url: str) -> str:
    """PostgreSQL's address for SQLAlchemy, with psycopg 3 named; several hosts as its query names them.

    raises: ValueError when it is no address of PostgreSQL.

    >>> address_of_database("postgres://u:p@db:5433/wayleave")
    'postgresql+psycopg://u:p@db:5433/wayleave'
    >>> address_of_database("postgresql://u@a:5432,b/wayleave?target_session_attrs=read-write")
    'postgresql+psycopg://u@/wayleave?host=a,b&port=5432,5432&target_session_attrs=read-write'
    """
    found = _POSTGRESQL.fullmatch(url)
    if found is None:
        raise ValueError("no address of PostgreSQL")
    user, hosts, name, query = (part or "" for part in found.groups())
    if "," not in hosts:
        return "postgresql+psycopg://" + url.partition("://")[2]
    names, ports = [], []
    for host in hosts.split(","):
        one = urlsplit(f"//{host}")
        names.append(one.hostname or "")
        ports.append(str(one.port or 5432))
    several = f"host={','.join(names)}&port={','.join(ports)}"
    return f"postgresql+psycopg://{user}{name or '/'}?{several}{'&' if query else ''}{query}"


def without_password(url: str) -> str:
    """A database's address as it was set, but for the password.

    >>> without_password("postgresql://u:secret@a:5432,b:5432/wayleave")
    'postgresql://u:***@a:5432,b:5432/wayleave'
    """
    found = _POSTGRESQL.fullmatch(url)
    if found is None or ":" not in found[1]:
        return url
    return f"{url[: found.start(1)]}{found[1].partition(':')[0]}:***@{url[found.end(1) :]}"


def _port_of(address: SplitResult) -> int | None:
    try:
        return address.port
    except ValueError:  # not a number, or too large
        return None


def _is_mail_address(text: str) -> bool:
    name, _, domain = text.rpartition("@")
    return bool(name and domain) and text.isascii() and text.isprintable() and not set(text) & set(' <>,;"')


class Settings(BaseSettings):
    """The server's settings. `Settings()` reads the environment; tests pass values.

    raises: pydantic.ValidationError naming the setting that can't be used.
    """

    model_config = SettingsConfigDict(
        env_prefix="WAYLEAVE_",
        extra="ignore",
        frozen=True,
        hide_input_in_errors=True,
        use_attribute_docstrings=True,  # the page of settings shows them
    )

    data_dir: Path = Path("var")
    """Where the embedded database and the server's keys live."""
    database_url: str = ""
    """`postgresql://user:password@host/name`, with a standby `@host,standby`; empty means SQLite in `data_dir`."""
    host: str = "127.0.0.1"
    """The address to listen on."""
    port: Annotated[int, Field(ge=0, le=65535)] = 8000
    """The port to listen on; 0 takes a free one."""
    base_url: str = ""
    """How people and agents reach the server, `https://wayleave.example.com`; empty means host and port."""
    server_key: SecretStr | None = None
    """At least 32 hex digits; keyed hash of user SIDs. Empty means a key file in `data_dir`."""
    database_pool: Annotated[int, Field(ge=1, le=200)] = 10
    """Database connections of one process for pages; the report writer has its own."""

    oidc_issuer: str = ""
    """The OpenID Connect provider's issuer address; empty: people sign in with passwords alone."""
    oidc_client_id: str = ""
    """As the provider knows this server."""
    oidc_client_secret: SecretStr | None = None
    """Of this server at the provider."""
    oidc_groups_claim: str = "groups"
    """The claim in which the provider lists a person's groups."""
    oidc_roles: dict[str, Literal["viewer", "analyst", "approver", "administrator"]] = Field(default_factory=dict)
    """JSON: group name or id -> role. Who is in none of these groups may not sign in."""
    oidc_name: str = "single sign-on"
    """What the button says after "Sign in with"."""

    audit_syslog: str = ""
    """Where audit entries are copied to: `udp://host:514`, `tcp://host:601` or `tls://host:6514`."""
    audit_webhook: str = ""
    """An address that audit entries are posted to as JSON, signed with `audit_webhook_key`."""
    audit_webhook_key: SecretStr | None = None
    """At least 16 characters; the receiver proves with it that a post comes from here."""

    notice_webhook: str = ""
    """An address that notices are posted to as JSON, signed with `notice_webhook_key`."""
    notice_webhook_key: SecretStr | None = None
    """At least 16 characters; the receiver proves with it that a notice comes from here."""
    notice_smtp: str = ""
    """The mail server: `smtp+starttls://mail.example.com:587`, `smtps://mail.example.com:465` or `smtp://host:25`."""
    notice_smtp_user: str = ""
    """As whom to sign in at the mail server; empty: not at all."""
    notice_smtp_password: SecretStr | None = None
    """Of `notice_smtp_user`."""
    notice_mail_from: str = ""
    """From which address notices are mailed."""
    notice_mail_to: str = ""
    """To which addresses, with commas between."""
    notice_users: Annotated[int, Field(ge=1)] = 10
    """For so many users of a group something must have closed that was open, before it is told."""
    notice_share: Annotated[int, Field(ge=0, le=100)] = 5
    """And for so many per cent of those of the group who tried it."""
    notice_hosts: Annotated[int, Field(ge=1, le=300)] = 5
    """And on so many distinct hosts, which are looked at one by one."""
    notice_days: Annotated[int, Field(ge=1, le=90)] = 7
    """How far back it must have been open."""
    offer_after_days: Annotated[int, Field(ge=7, le=365)] = 90
    """Rules that nothing used for so long, or whose uv release no host has had, are offered for removal."""

    rules_approved_only: bool = False
    """Whether rules leave only from approved rule sets: then nobody takes any at /export or by `wayleave export`."""

    blocked_page: bool = True
    """Whether anybody may have uv's output read at /blocked, without signing in."""

    next_report_s: Annotated[int, Field(ge=10, le=7 * 86400)] = 900
    """How often an agent reports."""
    quarantine_new_hosts: bool = False
    """Whether newly enrolled hosts stay uncounted until somebody approves them."""
    silent_after_days: Annotated[int, Field(ge=1)] = 14
    """Subjects that said nothing for this long leave the counts until they report again."""
    retention_days: Annotated[int, Field(ge=7)] = 180
    """How long transitions and sightings are kept."""
    upload_bytes: Annotated[int, Field(ge=1_000_000)] = 8_000_000_000
    """How large a file may be that a browser sends to be imported."""
    new_sets_per_day: Annotated[int, Field(ge=1)] = 24
    """New facts that one host may bring in a day; 500 where it is marked multi-session."""
    subjects_per_day: Annotated[int, Field(ge=1)] = 32
    """New users that one host may bring in a day; 1,000 where it is marked multi-session."""

    sightings_per_day: Annotated[int, Field(ge=1)] = 5000
    """Events of files that were refused, or would be, that one host may tell in a day; 50,000 where multi-session."""

    group_reports: Annotated[int, Field(ge=1, le=2000)] = 300
    """Reports committed together at most."""
    group_wait_ms: Annotated[int, Field(ge=0, le=1000)] = 10
    """How long the first report of a group waits for company."""
    commit_by_bucket: bool = False
    """Commits reports of one bucket of hosts at a time: for tables that Citus distributed, and slower without."""
    queue_reports: Annotated[int, Field(ge=1)] = 4000
    """Reports waiting for the writer before further ones are answered 503."""
    queue_age_s: Annotated[float, Field(gt=0)] = 10.0
    """A report that waited this long for the writer is answered 503."""
    answer_s: Annotated[float, Field(gt=0, le=25)] = 20.0
    """A report whose commit takes longer is answered 503, before agents give up; a connection that hangs is cut."""
    connections: Annotated[int, Field(ge=10)] = 2000
    """Connections open at once, per process; who comes beyond is answered 503 and comes back."""
    reports_in_flight: Annotated[int, Field(ge=1)] = 2000
    """Reports being received or written at once, per process."""
    requests_in_flight: Annotated[int, Field(ge=1, le=200)] = 20
    """Other requests worked on at once, per process."""
    request_timeout_s: Annotated[float, Field(gt=0)] = 20.0
    """How long a request may take to arrive, and a second more for each 4 KiB of it."""

    @model_validator(mode="after")
    def _key_is_long_enough(self) -> Self:
        if self.server_key is not None:
            text = self.server_key.get_secret_value()
            try:
                long_enough = len(bytes.fromhex(text)) >= 16
            except ValueError:
                long_enough = False
            if not long_enough:
                raise ValueError("WAYLEAVE_SERVER_KEY needs at least 32 hex digits")
        return self

    @model_validator(mode="after")
    def _database_has_an_address(self) -> Self:
        try:
            _ = self.url
        except ValueError:
            raise ValueError(
                "WAYLEAVE_DATABASE_URL is written postgresql://user:password@host:5432/name,"
                " with a standby postgresql://user:password@host:5432,standby:5432/name"
            ) from None
        return self

    @model_validator(mode="after")
    def _buckets_are_of_a_cluster(self) -> Self:
        if self.commit_by_bucket and self.is_sqlite:
            raise ValueError("WAYLEAVE_COMMIT_BY_BUCKET needs PostgreSQL")
        return self

    @model_validator(mode="after")
    def _sign_on_is_whole(self) -> Self:
        if not self.oidc_issuer:
            return self
        missing = [
            f"WAYLEAVE_{name.upper()}"
            for name in ("oidc_client_id", "oidc_client_secret", "oidc_roles", "base_url")
            if not getattr(self, name)
        ]
        if missing:
            raise ValueError(f"WAYLEAVE_OIDC_ISSUER needs also {', '.join(missing)}")
        address = urlsplit(self.oidc_issuer)
        if address.scheme != "https" and address.hostname not in ("127.0.0.1", "localhost", "::1"):
            raise ValueError("WAYLEAVE_OIDC_ISSUER must begin with https://")
        return self

    @model_validator(mode="after")
    def _audit_goes_somewhere(self) -> Self:
        if self.audit_syslog:
            address = urlsplit(self.audit_syslog)
            if address.scheme not in ("udp", "tcp", "tls") or not address.hostname or not _port_of(address):
                raise ValueError("WAYLEAVE_AUDIT_SYSLOG is written udp://host:514, tcp://host:601 or tls://host:6514")
        if self.audit_webhook:
            address = urlsplit(self.audit_webhook)
            if address.scheme not in ("http", "https") or not address.hostname:
                raise ValueError("WAYLEAVE_AUDIT_WEBHOOK is an address that begins with https:// or http://")
            if self.audit_webhook_key is None or len(self.audit_webhook_key.get_secret_value()) < 16:
                raise ValueError("WAYLEAVE_AUDIT_WEBHOOK needs WAYLEAVE_AUDIT_WEBHOOK_KEY of at least 16 characters")
        return self

    @model_validator(mode="after")
    def _notices_go_somewhere(self) -> Self:
        if self.notice_webhook:
            address = urlsplit(self.notice_webhook)
            if address.scheme not in ("http", "https") or not address.hostname:
                raise ValueError("WAYLEAVE_NOTICE_WEBHOOK is an address that begins with https:// or http://")
            if self.notice_webhook_key is None or len(self.notice_webhook_key.get_secret_value()) < 16:
                raise ValueError("WAYLEAVE_NOTICE_WEBHOOK needs WAYLEAVE_NOTICE_WEBHOOK_KEY of at least 16 characters")
        if self.notice_smtp:
            address = urlsplit(self.notice_smtp)
            if address.scheme not in ("smtp", "smtps", "smtp+starttls") or not address.hostname or address.username:
                raise ValueError(
                    "WAYLEAVE_NOTICE_SMTP is written smtp+starttls://host:587, smtps://host or smtp://host"
                )
            if address.netloc.rpartition(":")[2].isdecimal() and not _port_of(address):
                raise ValueError("WAYLEAVE_NOTICE_SMTP names a port that there is not")
            addresses = (self.notice_mail_from, *self.mail_recipients)
            if not self.mail_recipients or not all(_is_mail_address(one) for one in addresses):
                raise ValueError("WAYLEAVE_NOTICE_SMTP needs also WAYLEAVE_NOTICE_MAIL_FROM and _TO, mail addresses")
            if self.notice_smtp_user and address.scheme == "smtp":
                raise ValueError("WAYLEAVE_NOTICE_SMTP_USER needs smtps:// or smtp+starttls://")
        return self

    @property
    def mail_recipients(self) -> tuple[str, ...]:
        """Whom notices are mailed to."""
        return tuple(one.strip() for one in self.notice_mail_to.split(",") if one.strip())

    @property
    def url(self) -> str:
        """The database's address for SQLAlchemy, with the psycopg 3 driver named."""
        if not self.database_url:
            return f"sqlite:///{(self.data_dir / 'wayleave.sqlite').absolute()}"
        return self.database_url if self.database_url.startswith("sqlite") else address_of_database(self.database_url)

    @property
    def public_url(self) -> str:
        """The address that people and agents are told."""
        return self.base_url.rstrip("/") or f"http://{self.host}:{self.port}"

    @property
    def is_sqlite(self) -> bool:
        return self.url.startswith("sqlite")
