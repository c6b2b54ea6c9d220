"""Signatures: RFC 8032's vectors, edge cases in the manner of Wycheproof, and another implementation beside ours."""

from __future__ import annotations

import random
import time

import pytest
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from agent.ed25519 import verify

ORDER = 2**252 + 27742317777372353535851937790883648493
PRIME = 2**255 - 19

# RFC 8032, section 7.1: secret key, public key, message, signature. (For its message of 1023 bytes see the next test.)
RFC_8032 = (
    (
        "9d61b19deffd5a60ba844af492ec2cc44449c5697b326919703bac031cae7f60",
        "d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a",
        "",
        "e5564300c360ac729086e2cc806e828a84877f1eb8e5d974d873e065224901555fb8821590a33bacc61e39701cf9b46bd25bf5f0595b"
        "be24655141438e7a100b",
    ),
    (
        "4ccd089b28ff96da9db6c346ec114e0f5b8a319f35aba624da8cf6ed4fb8a6fb",
        "3d4017c3e843895a92b70aa74d1b7ebc9c982ccf2ec4968cc0cd55f12af4660c",
        "72",
        "92a009a9f0d4cab8720e820b5f642540a2b27b5416503f8fb3762223ebdb69da085ac1e43e15996e458f3613d0f11d8c387b2eaeb430"
        "2aeeb00d291612bb0c00",
    ),
    (
        "c5aa8df43f9f837bedb7442f31dcb7b166d38535076f094b85ce3a2e0b4458f7",
        "fc51cd8e6218a1a38da47ed00230f0580816ed13ba3303ac5deb911548908025",
        "af82",
        "6291d657deec24024827e69c3abe01a30ce548a284743a445e3680d7db5ac3ac18ff9b538d16f290ae67f760984dc6594a7c15e9716e"
        "d28dc027beceea1ec40a",
    ),
    (
        "833fe62409237b9d62ec77587520911e9a759cec1d19755b7da901b96dca3d42",
        "ec172b93ad5e563bf4932c70e1245034c35467ef2efd4d64ebf819683467e2bf",
        "ddaf35a193617abacc417349ae20413112e6fa4e89a97ea20a9eeee64b55d39a2192992a274fc1a836ba3c23a3feebbd454d4423643c"
        "e80e2a9ac94fa54ca49f",
        "dc2a4459e7369633a52b1bf277839a00201009a3efbf3ecb69bea2186c26b58909351fc9ac90b3ecfdfbc7c66431e0303dca179c138a"
        "c17ad9bef1177331a704",
    ),
)

# Every encoding of a point of small order, the non-canonical ones among them.
SMALL_ORDER = (
    "0100000000000000000000000000000000000000000000000000000000000000",
    "ecffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
    "0000000000000000000000000000000000000000000000000000000000000000",
    "0000000000000000000000000000000000000000000000000000000000000080",
    "26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc05",
    "26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc85",
    "c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac037a",
    "c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac03fa",
    "0100000000000000000000000000000000000000000000000000000000000080",
    "ecffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff",
    "eeffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
    "edffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
)


@pytest.mark.parametrize(("secret", "public", "message", "signature"), RFC_8032)
def test_the_vectors_of_the_rfc(secret: str, public: str, message: str, signature: str) -> None:
    assert Ed25519PrivateKey.from_private_bytes(bytes.fromhex(secret)).public_key().public_bytes_raw().hex() == public
    assert Ed25519PrivateKey.from_private_bytes(bytes.fromhex(secret)).sign(bytes.fromhex(message)).hex() == signature
    assert verify(bytes.fromhex(public), bytes.fromhex(message), bytes.fromhex(signature))
    assert not verify(bytes.fromhex(public), bytes.fromhex(message) + b"\0", bytes.fromhex(signature))


def test_it_answers_as_another_implementation_does_whatever_was_changed() -> None:
    chance = random.Random(8032)
    answers = {True: 0, False: 0}
    for round_ in range(60):
        private = Ed25519PrivateKey.from_private_bytes(chance.randbytes(32))
        key = private.public_key().public_bytes_raw()
        message = chance.randbytes(chance.choice((0, 1, 63, 64, 65, 1023)))
        parts = [key, message, private.sign(message)]
        if round_ % 3:
            which = chance.choice((0, 2))
            changed = bytearray(parts[which])
            changed[chance.randrange(len(changed))] ^= 1 << chance.randrange(8)
            parts[which] = bytes(changed)
        try:
            Ed25519PublicKey.from_public_bytes(parts[0]).verify(parts[2], parts[1])
            expected = True
        except (InvalidSignature, ValueError):
            expected = False
        assert verify(parts[0], parts[1], parts[2]) is expected
        answers[expected] += 1
    assert answers[True] == 20
    assert answers[False] == 40


@pytest.fixture
def signed() -> tuple[bytes, bytes, bytes]:
    private = Ed25519PrivateKey.from_private_bytes(bytes(range(32)))
    return private.public_key().public_bytes_raw(), b"a catalogue", private.sign(b"a catalogue")


@pytest.mark.parametrize("times", [1, 2, 7])
def test_s_that_is_not_reduced_is_refused(signed: tuple[bytes, bytes, bytes], times: int) -> None:
    key, message, signature = signed
    scalar = int.from_bytes(signature[32:], "little") + times * ORDER
    assert scalar < 2**256
    assert not verify(key, message, signature[:32] + scalar.to_bytes(32, "little"))


def test_nothing_and_too_much_are_refused(signed: tuple[bytes, bytes, bytes]) -> None:
    key, message, signature = signed
    assert verify(key, message, signature)
    for wrong in (b"", signature[:63], signature + b"\0", signature[32:], bytes(64), b"\xff" * 64, signature[:32]):
        assert not verify(key, message, wrong)
    for wrong in (b"", key[:31], key + b"\0", bytes(32), b"\xff" * 32):
        assert not verify(wrong, message, signature)
    assert not verify(key, message, bytes(32) + signature[32:])
    assert not verify(key, message, signature[:32] + bytes(32))


@pytest.mark.parametrize("key", SMALL_ORDER)
def test_a_key_of_small_order_signs_nothing(key: str) -> None:
    # With such a key, R = [S]B passes for any message at all in an implementation that does not look.
    base = "5866666666666666666666666666666666666666666666666666666666666666"
    for r, s in ((base, 1), (key, 0), ("01" + "00" * 31, 0)):
        assert not verify(bytes.fromhex(key), b"anything", bytes.fromhex(r) + s.to_bytes(32, "little"))


@pytest.mark.parametrize("y", [PRIME, PRIME + 1, PRIME + 3, 2**255 - 1])
def test_an_encoding_beyond_the_prime_is_refused(signed: tuple[bytes, bytes, bytes], y: int) -> None:
    _, message, signature = signed
    assert not verify(y.to_bytes(32, "little"), message, signature)
    assert not verify((y | 1 << 255).to_bytes(32, "little"), message, signature)


def test_a_y_without_a_point_is_refused(signed: tuple[bytes, bytes, bytes]) -> None:
    _, message, signature = signed
    refused = [number for number in range(2, 40) if not verify(number.to_bytes(32, "little"), message, signature)]
    assert len(refused) == 38


def test_a_signature_costs_little(signed: tuple[bytes, bytes, bytes]) -> None:
    key, _, signature = signed
    begun = time.process_time()
    for _ in range(5):
        verify(key, bytes(200_000), signature)
    assert (time.process_time() - begun) / 5 < 0.1
