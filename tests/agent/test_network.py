"""The way to the server: whom TLS trusts, and through which proxy; over real sockets."""

from __future__ import annotations

import datetime
import ipaddress
import socket
import ssl
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from agent.client import NoAnswer, enrol, open_client
from agent.contract.messages import Enrolled, Newcomer
from tests.free_port import free_port

HOST = Newcomer(name="pc-1", system="Windows 11")
ANSWER = b'{"host_id":"7","token":"wl_7_x","next_report_s":600}'
PROXY_VARIABLES = ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY")


class Answering(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["Content-Length"]))
        self.server.seen.append(self.path)
        self.send_response(201)
        self.send_header("Content-Length", str(len(ANSWER)))
        self.end_headers()
        self.wfile.write(ANSWER)

    def log_message(self, *_: object) -> None:
        """Nothing."""


@dataclass
class Proxy:
    """Passes CONNECT on, and notes where to."""

    listener: socket.socket
    asked: list[str] = field(default_factory=list)

    def run(self) -> None:
        while True:
            try:
                client, _ = self.listener.accept()
            except OSError:
                return
            threading.Thread(target=self._pass_on, args=(client,), daemon=True).start()

    def _pass_on(self, client: socket.socket) -> None:
        head = b""
        while b"\r\n\r\n" not in head:
            head += client.recv(4096)
        _, target, _ = head.split(b"\r\n", 1)[0].decode().split(" ")
        self.asked.append(target)
        host, _, port = target.rpartition(":")
        with client, socket.create_connection((host, int(port))) as server:
            client.sendall(b"HTTP/1.1 200 Connection established\r\n\r\n")
            back = threading.Thread(target=_copy, args=(server, client), daemon=True)
            back.start()
            _copy(client, server)
            back.join(5)


def _copy(source: socket.socket, target: socket.socket) -> None:
    try:
        while part := source.recv(65_536):
            target.sendall(part)
        target.shutdown(socket.SHUT_WR)
    except OSError:
        return


@pytest.fixture(autouse=True)
def no_proxies(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in PROXY_VARIABLES:
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.lower(), raising=False)


@pytest.fixture
def authority(tmp_path: Path) -> Path:
    """An authority's certificate, and beside it the certificate that it gave to 127.0.0.1, with its key."""
    begins = datetime.datetime.now(datetime.UTC) - datetime.timedelta(days=1)
    ends = begins + datetime.timedelta(days=30)
    root_key, key = ec.generate_private_key(ec.SECP256R1()), ec.generate_private_key(ec.SECP256R1())
    root_name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "Wayleave test authority")])
    builder = x509.CertificateBuilder().not_valid_before(begins).not_valid_after(ends)
    root_identifier = x509.SubjectKeyIdentifier.from_public_key(root_key.public_key())
    root = (
        builder.subject_name(root_name)
        .issuer_name(root_name)
        .public_key(root_key.public_key())
        .serial_number(x509.random_serial_number())
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(root_identifier, critical=False)
        .sign(root_key, hashes.SHA256())
    )
    leaf = (
        builder.subject_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "127.0.0.1")]))
        .issuer_name(root_name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(root_identifier), critical=False)
        .sign(root_key, hashes.SHA256())
    )
    (tmp_path / "leaf.pem").write_bytes(
        leaf.public_bytes(serialization.Encoding.PEM)
        + key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    path = tmp_path / "authority.pem"
    path.write_bytes(root.public_bytes(serialization.Encoding.PEM))
    return path


@pytest.fixture
def server(authority: Path) -> Iterator[ThreadingHTTPServer]:
    made = ThreadingHTTPServer(("127.0.0.1", 0), Answering)
    made.seen = []
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(authority.with_name("leaf.pem"))
    made.socket = context.wrap_socket(made.socket, server_side=True)
    thread = threading.Thread(target=made.serve_forever, daemon=True)
    thread.start()
    yield made
    made.shutdown()
    made.server_close()
    thread.join()


@pytest.fixture
def proxy() -> Iterator[Proxy]:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        made = Proxy(listener=listener)
        threading.Thread(target=made.run, daemon=True).start()
        yield made


def address(server: ThreadingHTTPServer) -> str:
    return f"https://127.0.0.1:{server.server_address[1]}"


def test_an_authority_that_the_system_does_not_know_is_trusted_only_when_given(
    server: ThreadingHTTPServer, authority: Path
) -> None:
    with open_client(address(server), ca_file=authority) as http:
        assert isinstance(enrol(http, "s", HOST), Enrolled)
    with open_client(address(server)) as http, pytest.raises(NoAnswer, match=r"(?i)certificate"):
        enrol(http, "s", HOST)
    assert server.seen == ["/api/v1/enrol"], "nothing was sent to a server that nobody vouches for"


def test_the_systems_own_store_is_asked(
    server: ThreadingHTTPServer, authority: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Where OpenSSL looks for the system's authorities on Linux; on Windows it is the machine's certificate store.
    monkeypatch.setenv("SSL_CERT_FILE", str(authority))
    with open_client(address(server)) as http:
        assert isinstance(enrol(http, "s", HOST), Enrolled)


def test_a_name_that_is_not_in_the_certificate_is_refused(server: ThreadingHTTPServer, authority: Path) -> None:
    elsewhere = address(server).replace("127.0.0.1", "localhost")
    with open_client(elsewhere, ca_file=authority) as http, pytest.raises(NoAnswer, match=r"(?i)certificate"):
        enrol(http, "s", HOST)


def test_a_proxy_of_the_environment_is_gone_through_and_sees_no_secret(
    server: ThreadingHTTPServer, authority: Path, proxy: Proxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HTTPS_PROXY", f"http://127.0.0.1:{proxy.listener.getsockname()[1]}")
    with open_client(address(server), ca_file=authority) as http:
        assert isinstance(enrol(http, "s", HOST), Enrolled)
    assert proxy.asked == [address(server).removeprefix("https://")]


def test_a_server_that_needs_no_proxy_is_reached_without(
    server: ThreadingHTTPServer, authority: Path, proxy: Proxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HTTPS_PROXY", f"http://127.0.0.1:{proxy.listener.getsockname()[1]}")
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    with open_client(address(server), ca_file=authority) as http:
        assert isinstance(enrol(http, "s", HOST), Enrolled)
    assert proxy.asked == []


def test_a_proxy_that_is_away_is_no_answer(
    server: ThreadingHTTPServer, authority: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    port = free_port()
    monkeypatch.setenv("HTTPS_PROXY", f"http://127.0.0.1:{port}")
    with open_client(address(server), ca_file=authority) as http, pytest.raises(NoAnswer):
        enrol(http, "s", HOST)
