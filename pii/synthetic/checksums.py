"""Check digits, and the encodings of coin addresses."""

import hashlib
import random
import re

BASE58 = "123456789ABCDEFGHJKLMNPQRSTUVWXYZabcdefghijkmnopqrstuvwxyz"
BECH32 = "qpzry9x8gf2tvdw0s3jn54khce6mua7l"
BECH32_GENERATOR = (0x3B6A57B2, 0x26508E6D, 0x1EA119FA, 0x3D4233DD, 0x2A1462B3)


def luhn_digit(number: str) -> str:
    """The check digit of ISO/IEC 7812-1 that belongs after the digits of `number`."""
    doubled = [int(d) * (2 - i % 2) for i, d in enumerate(re.findall(r"\d", number)[::-1])]
    return str(-sum(d - 9 * (d > 9) for d in doubled) % 10)


def base58(version: int, rng: random.Random) -> str:
    """Base58Check of a version byte and a random 20-byte hash."""
    payload = bytes([version]) + rng.randbytes(20)
    payload += hashlib.sha256(hashlib.sha256(payload).digest()).digest()[:4]
    number, text = int.from_bytes(payload, "big"), ""
    while number:
        number, digit = divmod(number, 58)
        text = BASE58[digit] + text
    return "1" * (len(payload) - len(payload.lstrip(b"\0"))) + text


def bech32(prefix: str, rng: random.Random) -> str:
    """BIP 173 address of a random 20-byte hash, witness version 0."""
    data = [0] + [rng.randrange(32) for _ in range(32)]
    check = 1
    for value in [ord(c) >> 5 for c in prefix] + [0] + [ord(c) & 31 for c in prefix] + data + [0] * 6:
        top, check = check >> 25, (check & 0x1FFFFFF) << 5 ^ value
        for bit, term in enumerate(BECH32_GENERATOR):
            check ^= term if top >> bit & 1 else 0
    data += [(check ^ 1) >> 5 * (5 - i) & 31 for i in range(6)]
    return f"{prefix}1{''.join(BECH32[value] for value in data)}"
