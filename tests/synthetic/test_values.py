"""Values of the types: numbers of a country hold its own checksum."""

import re


def test_iban_leaves_one_modulo_97(values):
    numbers = [value.replace(" ", "") for _, value in values["IBAN"]]
    assert {"GB", "FR", "CH"} <= {number[:2] for number in numbers}
    assert {int("".join(str(int(c, 36)) for c in number[4:] + number[:4])) % 97 for number in numbers} == {1}


def test_french_nir_ends_with_its_key_and_swiss_ahv_with_that_of_ean_13(values):
    numbers = [re.sub(r"[ .]", "", value) for language, value in values["SSN"] if language == "fr"]
    nir = [n.replace("2A", "19").replace("2B", "18") for n in numbers if len(n) == 15]
    ahv = [[int(d) for d in n] for n in numbers if len(n) == 13]
    assert nir
    assert ahv
    assert all((int(n[:13]) + int(n[13:])) % 97 == 0 for n in nir)
    assert all((sum(n[::2]) + 3 * sum(n[1::2])) % 10 == 0 for n in ahv)
