"""Checksums of numbers and addresses, each a function of the compact value: is it right?

Numbers are python-stdnum's, an extra; the short ones that it lacks stand here.
"""

import hashlib
import importlib.util
from collections.abc import Callable

STDNUM, KECCAK, PHONES = (importlib.util.find_spec(name) is not None for name in ("stdnum", "Crypto", "phonenumbers"))
BASE58 = "123456789ABCDEFGHJKLMNPQRSTUVWXYZabcdefghijkmnopqrstuvwxyz"
BECH32 = "qpzry9x8gf2tvdw0s3jn54khce6mua7l"
BECH32_SUMS = (1, 0x2BC830A3)  # BIP 173, and BIP 350 from witness version 1 on
BITCOIN_VERSIONS, LITECOIN_VERSIONS = (0x00, 0x05), (0x30, 0x32)
FEWEST_VAT_DIGITS = 7
FEWEST_LETTERS = 4  # of an Ethereum address; one of 10,000 has fewer
VIN_VALUES = dict(zip("ABCDEFGHJKLMNPRSTUVWXYZ", (*range(1, 9), *range(1, 6), 7, 9, *range(2, 10)), strict=True))
VIN_WEIGHTS = (8, 7, 6, 5, 4, 3, 2, 10, 0, 9, 8, 7, 6, 5, 4, 3, 2)


def by_stdnum(module: str) -> Callable[[str], bool]:
    """is_valid of a module of python-stdnum, loaded when it is first asked."""

    def is_valid(compact: str) -> bool:
        from importlib import import_module

        return import_module(f"stdnum.{module}").is_valid(compact)

    return is_valid


def iban(compact: str) -> bool:
    """ISO 13616: the remainder, which is quick, then the form of the country."""
    number = int("".join(str(int(character, 36)) for character in compact[4:] + compact[:4]))
    return number % 97 == 1 and by_stdnum("iban")(compact)


def vat(compact: str) -> bool:
    """A value-added tax number with its country, of a country whose numbers have a checksum.

    python-stdnum knows only the form of some countries' numbers: then most others of one digit more are right, too.
    """
    is_valid = by_stdnum("vatin")
    places = [place for place, character in enumerate(compact) if character.isdigit()]
    if len(places) < FEWEST_VAT_DIGITS or not is_valid(compact):
        return False
    others = (f"{compact[:i]}{(int(compact[i]) + 1) % 10}{compact[i + 1 :]}" for i in places)
    return 3 * sum(map(is_valid, others)) < len(places)


def luhn(digits: str) -> bool:
    """ISO/IEC 7812-1, annex B."""
    doubled = [sum(divmod(2 * int(digit), 10)) for digit in digits[-2::-2]]
    return (sum(doubled) + sum(map(int, digits[-1::-2]))) % 10 == 0


def card(digits: str) -> bool:
    """A card's number and an IMEI (3GPP TS 23.003): their check digit, and not one digit alone."""
    return len(set(digits)) > 1 and luhn(digits)


def vin(number: str) -> bool:
    """49 CFR 565: the ninth character is the others' weighted sum, as on all cars for North America and China."""
    if not any(character.isdigit() for character in number) or len(set(number)) < 4:
        return False
    values = (int(c) if c.isdigit() else VIN_VALUES.get(c, 0) for c in number)
    total = sum(weight * value for weight, value in zip(VIN_WEIGHTS, values, strict=True))
    return "0123456789X"[total % 11] == number[8]


def base58check(address: str, versions: tuple[int, ...]) -> bool:
    """25 bytes: a version, a hash and the first four bytes of their double SHA-256."""
    number = 0
    for character in address:
        if (digit := BASE58.find(character)) < 0:
            return False
        number = 58 * number + digit
    if number >= 1 << 200:
        return False
    raw = number.to_bytes(25, "big")
    zeros, ones = len(raw) - len(raw.lstrip(b"\0")), len(address) - len(address.lstrip("1"))
    checksum = hashlib.sha256(hashlib.sha256(raw[:-4]).digest()).digest()[:4]
    return raw[0] in versions and raw[-4:] == checksum and zeros == ones


def bech32(address: str) -> bool:
    """BIP 173 and 350: a polynomial checksum over the human-readable part and the data; one case throughout."""
    if address not in (address.lower(), address.upper()):
        return False
    prefix, _, data = address.lower().rpartition("1")
    values = [BECH32.find(character) for character in data]
    if min(values, default=-1) < 0 or len(values) < 8:
        return False
    total = 1
    for value in [*(ord(c) >> 5 for c in prefix), 0, *(ord(c) & 31 for c in prefix), *values]:
        top, total = total >> 25, (total & 0x1FFFFFF) << 5 ^ value
        for bit, term in enumerate((0x3B6A57B2, 0x26508E6D, 0x1EA119FA, 0x3D4233DD, 0x2A1462B3)):
            total ^= term if top >> bit & 1 else 0
    return total == BECH32_SUMS[values[0] > 0]


def bitcoin(address: str) -> bool:
    return bech32(address) if address.lower().startswith("bc1") else base58check(address, BITCOIN_VERSIONS)


def litecoin(address: str) -> bool:
    return bech32(address) if address.lower().startswith("ltc1") else base58check(address, LITECOIN_VERSIONS)


def ethereum(address: str) -> bool:
    """EIP-55: the case of each letter is a bit of the address's Keccak-256. A few letters prove nothing."""
    digits = address[2:]
    if not KECCAK or sum(map(str.isalpha, digits)) < FEWEST_LETTERS:
        return False
    from Crypto.Hash import keccak

    bits = keccak.new(digest_bits=256, data=digits.lower().encode()).hexdigest()
    return all(c.isdigit() or c.isupper() == (int(bit, 16) >= 8) for c, bit in zip(digits, bits, strict=False))
