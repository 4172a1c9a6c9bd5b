"""The maps of label sets: they know our labels and those of the other sets, and give labels of their set alone."""

import json
import os

import pytest

from pii.corpus.label_maps.maps import SETS, SHIPPED, label_map_path, read_label_map, warn_unused
from pii.corpus.rows import OUTSIDE
from tests.synthetic.conftest import TYPES

TARGETS = {
    "conll": {"PER", "LOC", "ORG", "MISC", OUTSIDE},
    "i2b2": {"NAME", "PROFESSION", "LOCATION", "AGE", "DATE", "CONTACT", "ID", OUTSIDE},
}
KNOWN = {
    "presidio": {
        "FIRSTNAME": "PERSON",
        "EMAIL": "EMAIL_ADDRESS",
        "first_name": "PERSON",
        "PER": "PERSON",
        "PIN": "PIN",
    },
    "conll": {"LASTNAME": "PER", "CITY": "LOC", "COMPANYNAME": "ORG", "PERSON": "PER", "EMAIL": OUTSIDE},
    "i2b2": {"FIRSTNAME": "NAME", "PHONENUMBER": "CONTACT", "SSN": "ID", "DOB": "DATE", "PATIENT": "NAME"},
}


def of(name: str) -> dict[str, str]:
    return read_label_map(label_map_path(name))


@pytest.mark.parametrize("name", SETS)
def test_each_map_has_a_place_for_every_label_of_ours_and_its_own(name):
    label_map = of(name)
    assert label_map.keys() >= TYPES
    assert all(label_map[label] == label for label in {*label_map.values()} - {OUTSIDE})
    assert KNOWN[name].items() <= label_map.items()
    assert {*label_map.values()} == TARGETS.get(name, {*label_map.values()})


def test_all_maps_know_the_same_labels():
    assert {path.stem for path in SHIPPED.glob("*.json")} == {*SETS}
    assert len({frozenset(of(name)) - {label for other in SETS for label in of(other).values()} for name in SETS}) == 1


def test_a_file_of_that_name_is_given_by_its_way(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "conll").write_text(json.dumps({"A": "B"}))
    assert of("conll")["PER"] == "PER"
    assert read_label_map(label_map_path(f"{tmp_path}{os.sep}conll")) == {"A": "B"}
    assert read_label_map(label_map_path(f".{os.sep}conll")) == {"A": "B"}


def test_of_a_label_set_the_labels_without_a_place_are_named(capsys):
    warn_unused(of("conll"), ["PER", "FIRSTNAME", "O"], "the data does not have")
    assert capsys.readouterr().err == ""
    warn_unused(of("conll"), ["Persons", "FIRSTNAME"], "the data does not have")
    assert capsys.readouterr().err == (
        "warning: the label set has no place for these labels, which stay as they are: Persons\n"
    )
