"""A certificate authority that lives for one test run, and signs programs as a publisher would."""

from __future__ import annotations

import datetime as dt
import subprocess
from dataclasses import dataclass
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

PUBLISHER = "O=EXAMPLE WORKS, L=TESTTOWN, S=TESTSHIRE, C=GB"


@dataclass(frozen=True, slots=True, kw_only=True)
class Signer:
    """A certificate for signing code, issued by itself, with its key: both as PEM files."""

    certificate: Path
    key: Path

    def sign(self, file: Path) -> None:
        """Sign a program, a library or an MSI in place."""
        signed = file.with_suffix(file.suffix + ".signed")
        _osslsigncode(
            *("sign", "-h", "sha256", "-certs", str(self.certificate), "-key", str(self.key)),
            *("-in", str(file), "-out", str(signed)),
        )
        signed.replace(file)

    def verify(self, file: Path) -> str:
        """What osslsigncode says of a file. raises: AssertionError unless it is signed by this signer and whole."""
        return _osslsigncode("verify", "-CAfile", str(self.certificate), "-in", str(file))


def make_signer(folder: Path) -> Signer:
    """A new signer with its files in a folder."""
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    names = (
        (NameOID.COUNTRY_NAME, "GB"),
        (NameOID.STATE_OR_PROVINCE_NAME, "Testshire"),
        (NameOID.LOCALITY_NAME, "Testtown"),
        (NameOID.ORGANIZATION_NAME, "Example Works"),
        (NameOID.COMMON_NAME, "Example Works"),
    )
    name = x509.Name([x509.NameAttribute(oid, value) for oid, value in names])
    now = dt.datetime.now(dt.UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - dt.timedelta(days=1))
        .not_valid_after(now + dt.timedelta(days=30))
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.CODE_SIGNING]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .sign(key, hashes.SHA256())
    )
    signer = Signer(certificate=folder / "signer.pem", key=folder / "signer.key")
    signer.certificate.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    signer.key.write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    return signer


def _osslsigncode(*arguments: str) -> str:
    ended = subprocess.run(["osslsigncode", *arguments], capture_output=True, text=True, check=False, timeout=60)
    assert ended.returncode == 0, ended.stdout + ended.stderr
    return ended.stdout
