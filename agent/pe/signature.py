"""The first signature of a PE image: who signed, and what digest was signed.

Nothing here says that a signature can be trusted: the chain is not checked (Windows does that, and treats an untrusted
chain as unsigned). What is checked is that the signature belongs to this file: its digest must be the image's.

source: Microsoft, "Windows Authenticode Portable Executable Signature Format"; RFC 2315 (PKCS #7); RFC 5280.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass

from agent.pe.der import (
    INTEGER,
    OBJECT_ID,
    OCTET_STRING,
    SEQUENCE,
    SET,
    Node,
    child,
    object_id,
    read_children,
    read_node,
)
from agent.pe.image import Image
from agent.pe.names import Name, read_name
from agent.pe.source import PeError, Source

PKCS_SIGNED_DATA = 2  # WIN_CERT_TYPE_PKCS_SIGNED_DATA
MAX_TABLE_ENTRIES = 64
SIGNED_DATA_ID = "1.2.840.113549.1.7.2"
INDIRECT_DATA_ID = "1.3.6.1.4.1.311.2.1.4"
DIGESTS = {
    "1.2.840.113549.2.5": "md5",
    "1.3.14.3.2.26": "sha1",
    "2.16.840.1.101.3.4.2.1": "sha256",
    "2.16.840.1.101.3.4.2.2": "sha384",
    "2.16.840.1.101.3.4.2.3": "sha512",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Signature:
    """The leaf certificate's subject and the digest of the image that was signed (`algorithm` as in hashlib)."""

    subject: Name
    algorithm: str
    digest: bytes


def read_signature(source: Source, image: Image) -> Signature | None:
    """The first signature in the certificate table, None if there is none. raises: PeError if it is malformed."""
    offset, length = image.certificates
    if length == 0:
        return None
    table = source.read(offset, length, "the certificate table")
    position = 0
    for _ in range(MAX_TABLE_ENTRIES):
        if position + 8 > len(table):
            return None
        entry_bytes, _, kind = struct.unpack_from("<IHH", table, position)
        if entry_bytes < 8 or position + entry_bytes > len(table):
            raise PeError("an entry of the certificate table has a wrong length")
        if kind == PKCS_SIGNED_DATA:
            return parse_signature(table[position + 8 : position + entry_bytes])
        position += entry_bytes + (-entry_bytes % 8)
    raise PeError("too many entries in the certificate table")


def parse_signature(data: bytes) -> Signature:
    """A signature from its PKCS#7 message; zero padding behind it is ignored. raises: PeError"""
    content_info, _ = read_node(data)
    outer = read_children(content_info, "the PKCS#7 message")
    if object_id(child(outer, 0, OBJECT_ID, "the PKCS#7 type")) != SIGNED_DATA_ID:
        raise PeError("PKCS#7: not signed data")
    signed = _only_child(child(outer, 1, 0xA0, "the signed data"), "the signed data")
    parts = read_children(signed, "the signed data")
    algorithm, digest = _read_indirect_data(child(parts, 2, SEQUENCE, "the signed content"))
    certificates: tuple[Node, ...] = ()
    signers: tuple[Node, ...] = ()
    for part in parts[3:]:
        if part.tag == 0xA0:
            certificates = read_children(part, "the certificates")
        elif part.tag == SET:
            signers = read_children(part, "the signers")
    if not signers:
        raise PeError("PKCS#7: no signer")
    return Signature(subject=_find_subject(signers[0], certificates), algorithm=algorithm, digest=digest)


def _only_child(node: Node, what: str) -> Node:
    children = read_children(node, what)
    return child(children, 0, SEQUENCE, what)


def _read_indirect_data(content: Node) -> tuple[str, bytes]:
    parts = read_children(content, "the signed content")
    if object_id(child(parts, 0, OBJECT_ID, "the signed content's type")) != INDIRECT_DATA_ID:
        raise PeError("PKCS#7: what was signed is not the digest of a file")
    indirect = read_children(_only_child(child(parts, 1, 0xA0, "the digest of the file"), "the digest"), "the digest")
    info = read_children(child(indirect, 1, SEQUENCE, "the digest"), "the digest")
    algorithm = read_children(child(info, 0, SEQUENCE, "the digest's algorithm"), "the digest's algorithm")
    oid = object_id(child(algorithm, 0, OBJECT_ID, "the digest's algorithm"))
    if oid not in DIGESTS:
        raise PeError(f"PKCS#7: unknown digest algorithm {oid}")
    return DIGESTS[oid], child(info, 1, OCTET_STRING, "the digest").content


def _find_subject(signer: Node, certificates: tuple[Node, ...]) -> Name:
    """The subject of the certificate that the signer names by issuer and serial number."""
    parts = read_children(signer, "a signer")
    identity = read_children(child(parts, 1, SEQUENCE, "a signer's certificate"), "a signer's certificate")
    issuer = child(identity, 0, SEQUENCE, "a signer's issuer").whole
    serial = child(identity, 1, INTEGER, "a signer's serial number").content
    for certificate in certificates:
        if certificate.tag != SEQUENCE:
            continue  # an extended or attribute certificate
        body = read_children(_only_child(certificate, "a certificate"), "a certificate")
        begin = 1 if body and body[0].tag == 0xA0 else 0  # version 1 certificates have no version
        if (
            child(body, begin, INTEGER, "a serial number").content == serial
            and child(body, begin + 2, SEQUENCE, "an issuer").whole == issuer
        ):
            return read_name(child(body, begin + 4, SEQUENCE, "a subject"))
    raise PeError("PKCS#7: the signer's certificate is not in the message")
