"""Verifying an Ed25519 signature with the standard library alone: asked of a catalogue before it is read.

Only verification is here, over public values, so nothing has to take the same time whatever it is given. It is as
strict as the strictest: an encoding that is not the one of its number (of S, of R, of the key) is refused, and so is a
key of small order, under which a signature says nothing.

source: RFC 8032, sections 5.1.2 to 5.1.4 (points), 5.1.7 (verification).
"""

from __future__ import annotations

import hashlib

KEY_BYTES = 32
SIGNATURE_BYTES = 64

_P = 2**255 - 19
_L = 2**252 + 27742317777372353535851937790883648493
_D = -121665 * pow(121666, -1, _P) % _P
_SQRT_MINUS_1 = pow(2, (_P - 1) // 4, _P)

# A point in extended coordinates (X, Y, Z, T): x = X/Z, y = Y/Z, x*y = T/Z.
_Point = tuple[int, int, int, int]
_NEUTRAL: _Point = (0, 1, 1, 0)


def verify(key: bytes, message: bytes, signature: bytes) -> bool:
    """Whether a signature over a message is that of a public key. Whatever it is given, it answers.

    >>> key = bytes.fromhex("d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a")
    >>> signature = bytes.fromhex(
    ...     "e5564300c360ac729086e2cc806e828a84877f1eb8e5d974d873e065224901555fb8821590a33bacc61e39701cf9b46b"
    ...     "d25bf5f0595bbe24655141438e7a100b"
    ... )
    >>> verify(key, b"", signature), verify(key, b"x", signature)
    (True, False)
    """
    if len(key) != KEY_BYTES or len(signature) != SIGNATURE_BYTES:
        return False
    public = _decode(key)
    scalar = int.from_bytes(signature[32:], "little")
    if public is None or scalar >= _L or _is_neutral(_times(8, public)):
        return False
    hashed = hashlib.sha512(signature[:32] + key + message).digest()
    challenge = int.from_bytes(hashed, "little") % _L
    # [S]B = R + [k]A, solved for R: only R's own encoding is compared, so another one of it does not pass.
    expected = _add(_times(scalar, _BASE), _times(challenge, _negated(public)))
    return _encode(expected) == signature[:32]


def _add(a: _Point, b: _Point) -> _Point:
    e = (a[1] - a[0]) * (b[1] - b[0]) % _P
    f = (a[1] + a[0]) * (b[1] + b[0]) % _P
    g = 2 * a[3] * b[3] * _D % _P
    h = 2 * a[2] * b[2] % _P
    i, j, k, m = f - e, h - g, h + g, f + e
    return i * j % _P, k * m % _P, j * k % _P, i * m % _P


def _double(a: _Point) -> _Point:
    x2, y2 = a[0] * a[0] % _P, a[1] * a[1] % _P
    h = x2 + y2
    e = h - (a[0] + a[1]) * (a[0] + a[1]) % _P
    g = x2 - y2
    f = 2 * a[2] * a[2] + g
    return e * f % _P, g * h % _P, f * g % _P, e * h % _P


def _times(scalar: int, point: _Point) -> _Point:
    result = _NEUTRAL
    for bit in bin(scalar)[2:]:
        result = _double(result)
        if bit == "1":
            result = _add(result, point)
    return result


def _negated(a: _Point) -> _Point:
    return -a[0] % _P, a[1], a[2], -a[3] % _P


def _is_neutral(a: _Point) -> bool:
    return a[0] % _P == 0 and (a[1] - a[2]) % _P == 0


def _encode(a: _Point) -> bytes:
    inverse = pow(a[2], -1, _P)
    x, y = a[0] * inverse % _P, a[1] * inverse % _P
    return (y | (x & 1) << 255).to_bytes(32, "little")


def _decode(text: bytes) -> _Point | None:
    """The point of an encoding; None if it is of none, or not the one encoding of its point."""
    number = int.from_bytes(text, "little")
    y, sign = number & (1 << 255) - 1, number >> 255
    if y >= _P:
        return None
    x = _root((y * y - 1) * pow(_D * y * y + 1, -1, _P) % _P)
    if x is None or (x == 0 and sign):
        return None
    if x & 1 != sign:
        x = _P - x
    return x, y, 1, x * y % _P


def _root(square: int) -> int | None:
    """A square root modulo p; None if there is none."""
    root = pow(square, (_P + 3) // 8, _P)
    if (root * root - square) % _P:
        root = root * _SQRT_MINUS_1 % _P
    return None if (root * root - square) % _P else root


_Y = 4 * pow(5, -1, _P) % _P
_X = _root((_Y * _Y - 1) * pow(_D * _Y * _Y + 1, -1, _P) % _P) or 0
_BASE: _Point = (_X, _Y, 1, _X * _Y % _P) if _X % 2 == 0 else (_P - _X, _Y, 1, (_P - _X) * _Y % _P)
