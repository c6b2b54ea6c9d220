"""Sending one mail over SMTP, with TLS where it is asked for."""

from __future__ import annotations

import smtplib
import ssl
from dataclasses import dataclass
from email.message import EmailMessage
from email.utils import formatdate, make_msgid
from urllib.parse import urlsplit

from app.audit.deliver import DeliveryError

TIMEOUT_S = 10.0
SCHEMES = {"smtp": 25, "smtp+starttls": 587, "smtps": 465}
"""How a server's address begins, and the port that is meant where none is written."""


@dataclass(frozen=True, slots=True, kw_only=True)
class MailWay:
    """Which server takes mails, as whom, from whom and to whom. `server`: `smtp+starttls://mail.example.com:587`."""

    server: str
    sender: str
    recipients: tuple[str, ...]
    user: str = ""
    password: str = ""


def send_mail(way: MailWay, subject: str, text: str) -> None:
    """Hands one mail over. raises: DeliveryError when the server does not take it for anybody."""
    parts = urlsplit(way.server)
    host, port = parts.hostname or "", parts.port or SCHEMES.get(parts.scheme, 25)
    message = EmailMessage()
    message["Subject"] = " ".join(subject.split())[:200]
    message["From"] = way.sender
    message["To"] = ", ".join(way.recipients)
    message["Date"] = formatdate()
    message["Message-ID"] = make_msgid(domain=way.sender.rpartition("@")[2] or None)
    message["Auto-Submitted"] = "auto-generated"
    message.set_content(text)
    try:
        with _connected(parts.scheme, host, port) as server:
            if way.user:
                server.login(way.user, way.password)
            server.send_message(message)
    except (OSError, smtplib.SMTPException) as error:
        # What a server says may hold the password that it refused: only its number is kept.
        code = getattr(error, "smtp_code", None)
        raise DeliveryError(
            f"{parts.scheme}://{host}:{port}: {type(error).__name__}{f' {code}' if code else ''}"
        ) from None


def _connected(scheme: str, host: str, port: int) -> smtplib.SMTP:
    if scheme == "smtps":
        return smtplib.SMTP_SSL(host, port, timeout=TIMEOUT_S, context=ssl.create_default_context())
    server = smtplib.SMTP(host, port, timeout=TIMEOUT_S)
    if scheme == "smtp+starttls":
        try:
            server.starttls(context=ssl.create_default_context())
        except BaseException:
            server.close()
            raise
    return server
