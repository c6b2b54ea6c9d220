"""PE images made from nothing, and signatures by a certificate authority that lives for one test run."""

from __future__ import annotations

import datetime as dt
import shutil
import struct
import subprocess
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

FILE_ALIGNMENT = 0x200
SECTION_ALIGNMENT = 0x1000

Build = Callable[..., bytes]
Sign = Callable[..., bytes]


def pad(data: bytes, to: int) -> bytes:
    return data + bytes(-len(data) % to)


def version_block(key: str, value: bytes, children: bytes = b"", *, is_text: bool = False) -> bytes:
    lengths = struct.pack("<HHH", 0, len(value) // 2 if is_text else len(value), int(is_text))
    body = pad(lengths + key.encode("utf-16-le") + b"\0\0", 4) + value
    if children:
        body = pad(body, 4) + children
    return struct.pack("<H", len(body)) + body[2:]


def version_resource(
    strings: Mapping[str, str],
    version: tuple[int, int, int, int],
    *,
    table: str = "040904B0",
    translation: tuple[int, int] = (0x409, 0x4B0),
) -> bytes:
    """A VS_VERSIONINFO with one string table and one translation."""
    fixed = struct.pack(
        "<13I",
        0xFEEF04BD, 0x10000,
        version[0] << 16 | version[1], version[2] << 16 | version[3],
        version[0] << 16 | version[1], version[2] << 16 | version[3],
        0x3F, 0, 0x40004, 1, 0, 0, 0,
    )  # fmt: skip
    entries = b"".join(
        pad(version_block(key, (value + "\0").encode("utf-16-le"), is_text=True), 4) for key, value in strings.items()
    )
    string_info = version_block("StringFileInfo", b"", version_block(table, b"", entries, is_text=True), is_text=True)
    variables = version_block("Translation", struct.pack("<HH", *translation))
    variable_info = version_block("VarFileInfo", b"", variables, is_text=True)
    return version_block("VS_VERSION_INFO", fixed, pad(string_info, 4) + variable_info)


def resource_section(address: int, version: bytes) -> bytes:
    """A resource tree with the one version resource, in English (US)."""

    def directory(identifier: int, target: int) -> bytes:
        return struct.pack("<IIHHHHII", 0, 0, 0, 0, 0, 1, identifier, target)

    tree = directory(16, 0x80000018) + directory(1, 0x80000030) + directory(0x409, 0x48)
    return tree + struct.pack("<IIII", address + 0x58, len(version), 0, 0) + version


@pytest.fixture(scope="session")
def build_pe() -> Build:
    """A minimal PE image: `build_pe(is_64_bit=True, is_dll=False, code=b"...", version=bytes|None, overlay=b"")`."""

    def build(
        *,
        is_64_bit: bool = True,
        is_dll: bool = False,
        code: bytes = b"\xc3",
        version: bytes | None = None,
        overlay: bytes = b"",
        checksum: int = 0,
        directory_count: int = 16,
    ) -> bytes:
        contents = [code]
        if version is not None:
            contents.append(resource_section(2 * SECTION_ALIGNMENT, version))
        header_bytes = 0x400
        position = header_bytes
        table = b""
        body = b""
        for index, content in enumerate(contents):
            raw = pad(content, FILE_ALIGNMENT)
            table += struct.pack(
                "<8sIIIIIIHHI",
                (b".text", b".rsrc")[index],
                len(content),
                (index + 1) * SECTION_ALIGNMENT,
                len(raw),
                position,
                0, 0, 0, 0,
                (0x60000020, 0x40000040)[index],
            )  # fmt: skip
            position += len(raw)
            body += raw
        directories = [(0, 0)] * directory_count
        if version is not None:
            directories[2] = (2 * SECTION_ALIGNMENT, len(contents[1]))
        image_bytes = (len(contents) + 1) * SECTION_ALIGNMENT
        common = struct.pack("<BBIIIII", 14, 0, len(pad(code, FILE_ALIGNMENT)), 0, 0, 0x1000, 0x1000)
        if is_64_bit:
            optional = struct.pack("<H", 0x20B) + common + struct.pack("<Q", 0x140000000)
        else:
            optional = struct.pack("<H", 0x10B) + common + struct.pack("<II", 0x2000, 0x400000)
        optional += struct.pack("<IIHHHHHHI", SECTION_ALIGNMENT, FILE_ALIGNMENT, 6, 0, 0, 0, 6, 0, 0)
        optional += struct.pack("<IIIHH", image_bytes, header_bytes, checksum, 3, 0x8160)
        optional += struct.pack("<4Q" if is_64_bit else "<4I", 0x100000, 0x1000, 0x100000, 0x1000)
        optional += struct.pack("<II", 0, directory_count)
        optional += b"".join(struct.pack("<II", *entry) for entry in directories)
        characteristics = 0x22 | (0x2000 if is_dll else 0) | (0 if is_64_bit else 0x100)
        coff = struct.pack(
            "<HHIIIHH", 0x8664 if is_64_bit else 0x14C, len(contents), 0, 0, 0, len(optional), characteristics
        )
        dos = b"MZ" + bytes(0x3A) + struct.pack("<I", 0x40)
        return pad(dos + b"PE\0\0" + coff + optional + table, header_bytes) + body + overlay

    return build


@pytest.fixture(scope="session")
def build_version() -> Callable[..., bytes]:
    return version_resource


class Authority:
    """A root and what it signs."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
        self.name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "Wayleave test root")])
        self.root = self._certificate(self.name, self.key.public_key(), is_authority=True)
        self.leaf_key = rsa.generate_private_key(public_exponent=65537, key_size=2048)

    def _certificate(self, subject: x509.Name, public_key: rsa.RSAPublicKey, *, is_authority: bool) -> x509.Certificate:
        now = dt.datetime.now(dt.UTC)
        builder = (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(self.name)
            .public_key(public_key)
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - dt.timedelta(days=1))
            .not_valid_after(now + dt.timedelta(days=30))
            .add_extension(x509.BasicConstraints(ca=is_authority, path_length=None), critical=True)
        )
        if not is_authority:
            builder = builder.add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.CODE_SIGNING]), critical=False)
        return builder.sign(self.key, hashes.SHA256())

    def issue(self, subject: x509.Name) -> tuple[Path, Path]:
        """A code-signing certificate (PEM, with the root behind it) and its key."""
        leaf = self._certificate(subject, self.leaf_key.public_key(), is_authority=False)
        chain = self.folder / "leaf.pem"
        key = self.folder / "leaf.key"
        pem = serialization.Encoding.PEM
        chain.write_bytes(leaf.public_bytes(pem) + self.root.public_bytes(pem))
        key.write_bytes(
            self.leaf_key.private_bytes(pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
        )
        return chain, key


def subject_name(**parts: str) -> x509.Name:
    oids = {
        "C": NameOID.COUNTRY_NAME,
        "S": NameOID.STATE_OR_PROVINCE_NAME,
        "L": NameOID.LOCALITY_NAME,
        "O": NameOID.ORGANIZATION_NAME,
        "OU": NameOID.ORGANIZATIONAL_UNIT_NAME,
        "CN": NameOID.COMMON_NAME,
        "SERIALNUMBER": NameOID.SERIAL_NUMBER,
    }
    return x509.Name([x509.NameAttribute(oids[key], value) for key, value in parts.items()])


PLAIN_SUBJECT = {"C": "US", "S": "Oregon", "L": "Beaverton", "O": "Example Foundation", "CN": "Example"}


@pytest.fixture(scope="session")
def osslsigncode() -> str:
    program = shutil.which("osslsigncode")
    if program is None:
        pytest.skip("needs osslsigncode")
    return program


@pytest.fixture(scope="session")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("authority"))


@pytest.fixture(scope="session")
def sign_pe(osslsigncode: str, authority: Authority, tmp_path_factory: pytest.TempPathFactory) -> Sign:
    """`sign_pe(image, digest="sha256", **subject)`: the image signed by a leaf of the test's authority."""
    folder = tmp_path_factory.mktemp("signed")

    def sign(image: bytes, digest: str = "sha256", **subject: str) -> bytes:
        chain, key = authority.issue(subject_name(**(subject or PLAIN_SUBJECT)))
        unsigned, signed = folder / "unsigned.exe", folder / "signed.exe"
        unsigned.write_bytes(image)
        signed.unlink(missing_ok=True)
        command = [osslsigncode, "sign", "-h", digest, "-certs", chain, "-key", key, "-in", unsigned, "-out", signed]
        done = subprocess.run(command, capture_output=True, text=True, timeout=60)
        assert done.returncode == 0, done.stdout + done.stderr
        return signed.read_bytes()

    return sign
