"""X.500 names as Windows writes them, and the publisher name that AppLocker makes of them.

source: Microsoft, CertNameToStr (CERT_X500_NAME_STR) for the keys and the quoting; AaronLocker 2's
AuthenticodeTrustInfo for AppLocker's choice: `O=, L=, S=, C=` in this order, upper-cased, absent parts left out, and
the whole subject when there is no O or none of the others.
"""

from __future__ import annotations

from agent.pe.der import OBJECT_ID, SEQUENCE, SET, Node, child, expect, object_id, read_children, text
from agent.pe.source import PeError

KEYS = {
    "2.5.4.3": "CN",
    "2.5.4.4": "SN",
    "2.5.4.5": "SERIALNUMBER",
    "2.5.4.6": "C",
    "2.5.4.7": "L",
    "2.5.4.8": "S",
    "2.5.4.9": "STREET",
    "2.5.4.10": "O",
    "2.5.4.11": "OU",
    "2.5.4.12": "T",
    "2.5.4.42": "G",
    "2.5.4.43": "I",
    "0.9.2342.19200300.100.1.25": "DC",
    "1.2.840.113549.1.9.1": "E",
}

Name = tuple[tuple[tuple[str, str], ...], ...]
"""Relative names in the order of the certificate; each is one or more (key, value)."""


def read_name(node: Node) -> Name:
    """A name from its DER. raises: PeError"""
    names = []
    for relative in read_children(expect(node, SEQUENCE, "a name"), "a name"):
        pairs = []
        for attribute in read_children(expect(relative, SET, "a relative name"), "a relative name"):
            parts = read_children(expect(attribute, SEQUENCE, "a name's attribute"), "a name's attribute")
            oid = object_id(child(parts, 0, OBJECT_ID, "a name's attribute type"))
            if len(parts) != 2:
                raise PeError("DER: a name's attribute has no single value")
            pairs.append((KEYS.get(oid, f"OID.{oid}"), text(parts[1])))
        names.append(tuple(pairs))
    return tuple(names)


def publisher_name(name: Name) -> str:
    """The publisher that AppLocker makes of a subject.

    >>> publisher_name(((("C", "US"),), (("S", "Oregon"),), (("O", "Tree, Inc"),), (("CN", "x"),)))
    'O="TREE, INC", S=OREGON, C=US'
    """
    first: dict[str, str] = {}
    for pairs in name:
        for key, value in pairs:
            if value:
                first.setdefault(key, value)
    places = [key for key in ("L", "S", "C") if key in first]
    if "O" in first and places:
        return upper(", ".join(f"{key}={quote(first[key])}" for key in ("O", *places)))
    # Certificates list the country first, Windows prints it last.
    return upper(", ".join(" + ".join(f"{key}={quote(value)}" for key, value in pairs) for pairs in reversed(name)))


def quote(value: str) -> str:
    """A value as CertNameToStr quotes it.

    >>> print(quote('Say "hi" twice'))
    "Say ""hi"" twice"
    """
    if not value or value != value.strip() or any(character in value for character in ',+="\n<>#;'):
        return '"' + value.replace('"', '""') + '"'
    return value


def upper(value: str) -> str:
    """Upper-cased letter by letter, as Windows does: no letter becomes two.

    >>> upper("straße")
    'STRAßE'
    """
    return "".join(letter.upper() if len(letter.upper()) == 1 else letter for letter in value)
