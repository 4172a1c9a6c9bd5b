"""Check digits hold, and coin addresses carry their checksum."""

import hashlib
import re

import pytest


def luhn_holds(number: str) -> bool:
    digits = [int(d) for d in re.sub(r"\D", "", number)]
    return sum(digits[-1::-2] + [sum(divmod(2 * d, 10)) for d in digits[-2::-2]]) % 10 == 0


@pytest.mark.parametrize("label", ["CREDITCARDNUMBER", "PHONEIMEI"])
def test_luhn_check_digit_holds(values, label):
    assert [value for _, value in values[label] if not luhn_holds(value)] == []


def test_coin_addresses_carry_their_checksum(values):
    addresses = [value for label in ("BITCOINADDRESS", "LITECOINADDRESS") for _, value in values[label]]
    bech32 = [address for address in addresses if "1q" in address and address.islower()]
    assert 0 < len(bech32) < len(addresses)
    for address in bech32:
        assert bech32_remainder(address) == 1  # BIP 173
    for address in set(addresses) - set(bech32):
        number = 0
        for character in address:
            number = number * 58 + "123456789ABCDEFGHJKLMNPQRSTUVWXYZabcdefghijkmnopqrstuvwxyz".index(character)
        payload = number.to_bytes(25, "big")
        assert hashlib.sha256(hashlib.sha256(payload[:21]).digest()).digest()[:4] == payload[21:]


def bech32_remainder(address: str) -> int:
    """The polynomial over GF(32) of the address modulo the generator of BIP 173, by plain long division."""
    generator = [29, 22, 20, 21, 29, 18]
    prefix, _, data = address.partition("1")
    terms = [1, *(ord(c) >> 5 for c in prefix), 0, *(ord(c) & 31 for c in prefix)]
    terms += ["qpzry9x8gf2tvdw0s3jn54khce6mua7l".index(c) for c in data]
    for i in range(len(terms) - 6):
        for j, factor in enumerate(generator, 1):
            terms[i + j] ^= gf32_product(terms[i], factor)
    remainder = 0
    for term in terms[-6:]:
        remainder = remainder << 5 | term
    return remainder


def gf32_product(a: int, b: int) -> int:
    product = 0
    for bit in range(5):
        product ^= (a << bit) if b >> bit & 1 else 0
    for bit in (8, 7, 6, 5):
        product ^= (0b101001 << bit - 5) if product >> bit & 1 else 0
    return product
