"""What stands in the place of values: nothing else changes, numbered placeholders can be undone, fakes are stable."""

import hashlib
import hmac
import itertools
import json
import os
import random
import re
import subprocess
import sys
import tempfile
import unicodedata
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from pii.common import UserError
from pii.redaction import replacements
from pii.redaction.replacements import Replacer, Span
from pii.redaction.vault import Vault, load_vault, restore
from pii.synthetic import sentences
from pii.synthetic.values import LOCALES

ROOT = Path(__file__).parents[2]
CANARY = "xylophonecanary"
KEY = b"sixteen bytes or more"
KEYS = {"hash": KEY}
POOL_SIZE = 100
LABELS = ["EMAIL", "FIRSTNAME", "NRP", "A", "A_1", "X[", "X]", "["]
FRAGMENTS = [
    *("[EMAIL_1]", "[EMAIL_2]", "[EMAIL_10]", "[EMAIL_01]", "[EMAIL]", "[A_1]", "[A_1_1]", "[X__1]", "[__1]", "[[_1]"),
    *("[", "]", "[EMAIL", "_1]", "1]", "[EMAIL_1", "[[EMAIL_1]]", "[]", "\\1", "\\g<0>", "{}", "%s"),
    *("\0", "\r\n", "\n", "\r", "\u2028", "\u0085", "\x1c", "\ufeff", "\uffff", "e\u0301", "👨\u200d👩\u200d👧", "𝔘"),
    *("john@example.com", "John", "JOHN", "Zoé", " ", "a"),
]

pieces_of = st.one_of(st.sampled_from(FRAGMENTS), st.text(max_size=4))
Document = list[tuple[str, str | None]]  # the text in parts, each with its label if it is a span


def documents(max_size: int = 10) -> st.SearchStrategy[Document]:
    outside = st.tuples(pieces_of, st.none())
    inside = st.tuples(pieces_of.filter(bool), st.sampled_from(LABELS))
    return st.lists(st.one_of(outside, inside), max_size=max_size)


def text_of(document: Document) -> str:
    return "".join(part for part, _ in document)


def spans_of(document: Document) -> list[Span]:
    spans, position = [], 0
    for part, label in document:
        if label is not None:
            spans.append(Span(position, position + len(part), label, 0.9))
        position += len(part)
    return spans


def redacted(replacer: Replacer, document: Document, language: str = "und") -> str:
    return replacer.redact(text_of(document), spans_of(document), language)


def one_value(replacer: Replacer, label: str, value: str, language: str = "und") -> str:
    return redacted(replacer, [(value, label)], language)


def shown(label: str) -> str:
    return label.replace("[", "_").replace("]", "_")


def assert_one_line_without_canary(error: pytest.ExceptionInfo) -> None:
    message = str(error.value)
    assert message and len(message.splitlines()) == 1 and CANARY not in message
    assert error.value.__cause__ is None and (error.value.__context__ is None or error.value.__suppress_context__)


@pytest.fixture(scope="module")
def faker() -> Iterator[Replacer]:
    """With small pools, which are soon full and make a fake that equals its value likelier."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("pii.synthetic.values.POOL_SIZE", POOL_SIZE)
        replacements.shared_values.cache_clear()
        yield Replacer("fake")
    replacements.shared_values.cache_clear()


# Every kind


def by_hand(kind: str, label: str, value: str) -> str:
    """What stands for a value, worked out another way."""
    if kind == "mask":
        return "".join(c if len(f"a{c}b".splitlines()) == 2 else "*" for c in value)
    if kind == "hash":
        digest = hmac.new(KEY, label.encode() + b"\0" + value.encode(), hashlib.sha256).hexdigest()
        return f"[{shown(label)}_{digest[:16]}]"
    return f"[{shown(label)}]"


@pytest.mark.parametrize("kind", ["label", "mask", "hash"])
@settings(max_examples=60, deadline=None)
@given(document=documents())
def test_values_are_replaced_and_all_else_stays(kind, document):
    expected = [part if label is None else by_hand(kind, label, part) for part, label in document]
    assert redacted(Replacer(kind, KEYS.get(kind)), document) == "".join(expected)


@settings(max_examples=60, deadline=None)
@given(document=documents())
def test_fakes_are_those_of_the_values_alone_and_all_else_stays(faker, document):
    expected = [part if label is None else one_value(faker, label, part) for part, label in document]
    assert redacted(faker, document) == "".join(expected)


def numbered_by_hand(document: Document) -> str:
    """Numbers by first appearance; every candidate is searched for in the text and among those in use."""
    given_out: dict[tuple[str, str], str] = {}
    parts = []
    for part, label in document:
        if label is not None and (label, part) not in given_out:
            candidates = (f"[{shown(label)}_{number}]" for number in itertools.count(1))
            free = (c for c in candidates if c not in text_of(document) and c not in given_out.values())
            given_out[label, part] = next(free)
        parts.append(part if label is None else given_out[label, part])
    return "".join(parts)


@settings(max_examples=100, deadline=None)
@given(documents())
@example([("a", "EMAIL"), ("[EMAIL_2]", None), ("b", "EMAIL"), ("a", "EMAIL"), ("a", "A"), ("b", "EMAIL")])
@example([("a", "X["), ("b", "X]"), ("a", "X]")])
@example([("[EMAIL_", None), ("1]", "EMAIL")])
def test_numbers_go_by_first_appearance_and_skip_what_the_text_holds(document):
    assert redacted(Replacer("numbered"), document) == numbered_by_hand(document)


def test_numbers_start_again_with_each_document_and_each_label():
    replacer = Replacer("numbered")
    document = [("a", "EMAIL"), (" ", None), ("b", "EMAIL"), (" ", None), ("a", "CITY"), (" ", None), ("a", "EMAIL")]
    for _ in range(2):
        assert redacted(replacer, document) == "[EMAIL_1] [EMAIL_2] [CITY_1] [EMAIL_1]"


def test_a_mask_has_a_star_a_code_point_and_keeps_its_lines():
    value = "1 rue Zoé\r\n75001 👨\u200d👩\nFrance\u2028"
    masked = one_value(Replacer("mask"), "STREET", value)
    assert len(masked) == len(value) and set(masked) == {"*", "\r", "\n", "\u2028"}
    assert [len(line) for line in masked.splitlines()] == [len(line) for line in value.splitlines()]


def test_a_hash_depends_on_key_label_and_value_alone():
    first, second, other = Replacer("hash", KEY), Replacer("hash", KEY), Replacer("hash", KEY[::-1])
    assert re.fullmatch(r"\[EMAIL_[0-9a-f]{16}\]", one_value(first, "EMAIL", "a@b.c"))
    assert one_value(second, "EMAIL", "a@b.c", "fr") == one_value(first, "EMAIL", "a@b.c")
    suffixes = [one_value(first, "EMAIL", "a@b.c"), one_value(first, "URL", "a@b.c"), one_value(first, "EMAIL", "a@b")]
    suffixes.append(one_value(other, "EMAIL", "a@b.c"))
    assert len({text.rpartition("_")[2] for text in suffixes}) == 4


@pytest.mark.parametrize("kind", replacements.KINDS)
@pytest.mark.parametrize(
    "places", [[(3, 5), (0, 2)], [(0, 3), (2, 5)], [(0, 3), (0, 3)], [(2, 2)], [(3, 2)], [(-2, 3)], [(3, 99)]]
)
def test_spans_that_cannot_be_right_are_refused(kind, places, faker):
    replacer = faker if kind == "fake" else Replacer(kind, KEYS.get(kind))
    with pytest.raises(ValueError) as error:
        replacer.redact(CANARY, [Span(start, end, "EMAIL", 0.9) for start, end in places])
    assert_one_line_without_canary(error)


@pytest.mark.parametrize("key", [None, b"", CANARY.encode()])
def test_hashes_without_a_long_key_say_where_to_give_one(key):
    with pytest.raises(UserError) as error:
        Replacer("hash", key)
    assert_one_line_without_canary(error)
    assert "--hash-key-file FILE" in str(error.value) and "PII_HASH_KEY" in str(error.value)


def test_other_mistakes_end_with_one_line(tmp_path, monkeypatch):
    with pytest.raises(UserError) as error:
        Replacer(CANARY)
    assert_one_line_without_canary(error)
    with Vault.create(tmp_path / "vault") as vault, pytest.raises(UserError) as error:
        Replacer("mask", vault=vault)
    assert_one_line_without_canary(error)
    monkeypatch.setattr(replacements, "shared_values", replacements.shared_values.__wrapped__)
    monkeypatch.setitem(sys.modules, "faker", None)
    with pytest.raises(UserError, match="pip install Faker") as error:
        Replacer("fake")
    assert_one_line_without_canary(error)


# Restoring


def vault_of(batch: list[Document], path: Path) -> list[str]:
    """Write a vault; return the redacted texts."""
    with Vault.create(path) as vault:
        replacer = Replacer("numbered", vault=vault)
        return [redacted(replacer, document) for document in batch]


@settings(max_examples=100, deadline=None)
@given(st.lists(documents(6), max_size=4))
@example([[("a", "EMAIL")], [("[EMAIL_1]", None)], [("b", "EMAIL")], [("a", "EMAIL")]])
@example([[("[EMAIL_1]", None)], [("a", "EMAIL")], [("[EMAIL_2]", None), ("a", "EMAIL")], [("b", "EMAIL")]])
@example([[("[EMAIL_2]", "EMAIL"), ("[EMAIL_1]", "A"), ("[A_1]", "EMAIL"), ("[", None), ("EMAIL_3]", "NRP")]])
@example([[]])
def test_restoring_gives_the_original_or_an_error_where_another_became_the_same_text(batch):
    with tempfile.TemporaryDirectory() as folder:
        texts = vault_of(batch, Path(folder) / "vault")
        vault = load_vault(Path(folder) / "vault")
    originals = [text_of(document) for document in batch]
    for text, original in [*zip(texts, originals, strict=True), *zip(texts[::-1], originals[::-1], strict=True)]:
        same = {one for one, other in zip(originals, texts, strict=True) if other == text}
        if len(same) == 1:
            assert restore(vault, text) == original
        else:
            with pytest.raises(UserError, match="several originals"):
                restore(vault, text)
            assert text in same  # what looked like a placeholder stood in one of them


def test_each_text_of_a_vault_is_restored_alone_and_in_any_order(tmp_path):
    batch = [[("Hi ", None), (name, "NAME")] for name in ("Ann", "Bob", "Ann", "Eve")]
    texts = vault_of(batch, tmp_path / "vault")
    assert texts == [f"Hi [NAME_{number}]" for number in (1, 2, 3, 4)]
    for chosen in ([1], [3, 0], [2, 2, 1]):
        vault = load_vault(tmp_path / "vault")
        assert [restore(vault, texts[i]) for i in chosen] == [text_of(batch[i]) for i in chosen]


def test_of_several_originals_of_one_text_none_is_restored(tmp_path):
    """As in a vault whose numbers began at 1 in each document, or where the text itself looks like a placeholder."""
    text, other = "Hi [NAME_1]", "Oh [NAME_1]"
    lines = [(text, {"[NAME_1]": name}) for name in ("Ann", "Bob", "Ann")] + [(other, {"[NAME_1]": "Ann"})]
    entries = [{"redacted_sha256": hashlib.sha256(t.encode()).hexdigest(), "values": values} for t, values in lines]
    for start in range(3):
        content = [{"vault_version": 1}, *entries[start:]]
        (tmp_path / "vault").write_text("".join(json.dumps(entry) + "\n" for entry in content))
        vault = load_vault(tmp_path / "vault")
        assert restore(vault, other) == "Oh Ann"
        if start == 2:
            assert restore(vault, text) == "Hi Ann"
            continue
        for edited in (False, True):
            with pytest.raises(UserError, match="several originals") as error:
                restore(vault, text, edited)
            assert_one_line_without_canary(error)
        with pytest.raises(UserError, match="several values"):
            restore(vault, "Oh, [NAME_1]", edited=True)


def test_an_edited_text_is_restored_by_its_placeholders_alone_where_that_is_asked_for(tmp_path):
    batch = [[("Hi ", None), ("Ann", "NAME"), (" and ", None), ("[NAME_1]", "NAME")]]
    batch.append([("[NAME_4] ", None), ("Bo", "A")])
    assert vault_of(batch, tmp_path / "vault") == ["Hi [NAME_2] and [NAME_3]", "[NAME_4] [A_1]"]
    vault = load_vault(tmp_path / "vault")
    edited = "[NAME_3] [NAME_2]: [[NAME_2]] [NAME_1] [NAME_4] [name_2] [NAME_5] [A_1]"
    assert restore(vault, edited, edited=True) == "[NAME_1] Ann: [Ann] [NAME_1] [NAME_4] [name_2] [NAME_5] Bo"
    with pytest.raises(UserError, match="--edited"):
        restore(vault, edited)


def test_a_placeholder_that_also_stands_in_a_text_is_not_restored_in_an_edited_one(tmp_path):
    for batch in ([[("Ann", "A")], [("see [A_1].", None)]], [[("see [A_1].", None)], [("Ann", "A")]]):
        (tmp_path / "vault").unlink(missing_ok=True)
        vault_of(batch, tmp_path / "vault")
        vault = load_vault(tmp_path / "vault")
        assert restore(vault, "[A_1]", edited=True) == "Ann"  # the redacted text itself
        with pytest.raises(UserError, match="several values"):
            restore(vault, "see [A_1]!", edited=True)


@pytest.mark.parametrize("others", [[], [[("a", "EMAIL")]], [[("a", "EMAIL")], [("a", "EMAIL")]]])
def test_an_unknown_text_is_refused(others, tmp_path):
    vault_of(others, tmp_path / "vault")
    with pytest.raises(UserError, match="changed or belongs to another vault") as error:
        restore(load_vault(tmp_path / "vault"), CANARY)
    assert_one_line_without_canary(error)


def test_many_values_are_restored_in_linear_time(tmp_path):
    document = [(f"{CANARY}{i // 2} " if i % 2 else "[EMAIL_7] [", "EMAIL" if i % 2 else None) for i in range(20_000)]
    (text,) = vault_of([document], tmp_path / "vault")
    assert CANARY not in text
    assert restore(load_vault(tmp_path / "vault"), text) == text_of(document)


# The vault file


def only_file(folder: Path) -> Path:
    (path,) = folder.iterdir()
    return path


def test_a_vault_is_for_its_owner_alone_from_the_first_byte_on(tmp_path, monkeypatch):
    modes, real_open = [], os.open

    def watched_open(path, flags, mode=0o777, **rest):
        if Path(path).name == "vault":  # and not the lock, which holds nothing
            modes.append((mode, flags & os.O_EXCL))
        return real_open(path, flags, mode, **rest)

    mask = os.umask(0)
    try:
        with monkeypatch.context() as patch:
            patch.setattr(os, "open", watched_open)
            with Vault.create(tmp_path / "vault") as vault:
                patch.undo()
                assert modes == [(0o600, os.O_EXCL)] and only_file(tmp_path).name != "vault"
                (temporary,) = tmp_path.rglob("vault")
                assert temporary.stat().st_mode & 0o777 == 0o600
                Replacer("numbered", vault=vault).redact(CANARY, [Span(0, 5, "EMAIL", 1.0)])
                vault.file.flush()
                assert temporary.stat().st_mode & 0o777 == 0o600
    finally:
        os.umask(mask)
    assert only_file(tmp_path).name == "vault" and only_file(tmp_path).stat().st_mode & 0o777 == 0o600


def test_a_vault_is_json_lines_as_documented(tmp_path):
    texts = vault_of([[("a@b.c", "EMAIL"), ("\u2028", "EMAIL")], [("x", None)]], tmp_path / "vault")
    header, *lines = map(json.loads, (tmp_path / "vault").read_text(encoding="utf-8").split("\n")[:-1])
    assert header == {"vault_version": 1}
    digests = [hashlib.sha256(text.encode()).hexdigest() for text in texts]
    assert lines == [
        {"redacted_sha256": digests[0], "values": {"[EMAIL_1]": "a@b.c", "[EMAIL_2]": "\u2028"}},
        {"redacted_sha256": digests[1], "values": {}},
    ]


@pytest.mark.parametrize("mishap", [KeyboardInterrupt(), SystemExit(1), UserError(""), OSError()])
@pytest.mark.parametrize("before", [False, True])
def test_a_broken_run_leaves_the_old_vault_and_nothing_else(mishap, before, tmp_path):
    if before:
        vault_of([[(CANARY, "EMAIL")]], tmp_path / "vault")
    old = {path: path.read_bytes() for path in tmp_path.iterdir()}
    with pytest.raises(type(mishap)), Vault.create(tmp_path / "vault") as vault:
        redacted(Replacer("numbered", vault=vault), [(CANARY, "EMAIL")])
        raise mishap
    assert {path: path.read_bytes() for path in tmp_path.iterdir()} == old


def test_a_vault_makes_its_folder_and_replaces_one_that_begins_as_it_does(tmp_path):
    path = tmp_path / "new" / "vault"
    batch = [[("a", "EMAIL")], [("b", "EMAIL")]]
    for size in (0, 1, 2, 2):
        texts = vault_of(batch[:size], path)
        assert [restore(load_vault(path), text) for text in texts] == ["a", "b"][:size]
        assert path.stat().st_mode & 0o777 == 0o600
        path.chmod(0o644)


@pytest.mark.parametrize("other", [[("b", "EMAIL")], [("a", "NRP")], [("a", None)], []])
def test_a_vault_of_other_texts_is_not_replaced(other, tmp_path):
    """They could be restored no more, or worse: with the values of the new ones."""
    vault_of([[("a", "EMAIL")], [("c", "EMAIL")]], path := tmp_path / "vault")
    before = path.read_bytes()
    for batch in ([other], [[("a", "EMAIL")], other], [[("a", "EMAIL")]], []):
        with pytest.raises(UserError, match="of other texts") as error:
            vault_of(batch, path)
        assert_one_line_without_canary(error)
        assert only_file(tmp_path) == path and path.read_bytes() == before


@pytest.mark.parametrize("content", [None, b"", CANARY.encode(), b'{"vault_version": 2}\n', b"\xff\n", b"[" * 99999])
def test_what_is_no_vault_is_neither_replaced_nor_read(content, tmp_path):
    path = tmp_path / "vault"
    path.mkdir() if content is None else path.write_bytes(content)
    with pytest.raises(UserError) as error, Vault.create(path):
        pass
    assert_one_line_without_canary(error)
    assert only_file(tmp_path) == path and (content is None or path.read_bytes() == content)
    with pytest.raises(UserError) as error:
        load_vault(path)
    assert_one_line_without_canary(error)


def test_a_vault_that_is_not_there_is_named(tmp_path):
    with pytest.raises(UserError, match="nowhere: No such file") as error:
        load_vault(tmp_path / "nowhere")
    assert_one_line_without_canary(error)


def document_line(values: object) -> str:
    return json.dumps({"redacted_sha256": "0" * 64, "values": values})


@pytest.mark.parametrize(
    "line",
    [
        *("", CANARY, f'"{CANARY}"', "null", f'["{CANARY}"]', "[" * 99999, "{}", '{"vault_version": 1}'),
        *map(document_line, [None, [CANARY], {CANARY: "a"}, {"[A_1]": [CANARY]}, {"[A_1]": None}, {"": CANARY}]),
        f'{{"redacted_sha256": 7, "values": {{"[A_1]": "{CANARY}"}}}}',
        f'{{"values": {{"[A_1]": "{CANARY}"}}}}',
        document_line({"[A_1]": f"{CANARY} \ud800"}),  # no file in UTF-8 could hold what is restored
    ],
)
def test_a_damaged_line_is_named_by_its_number(line, tmp_path):
    lines = ['{"vault_version": 1}', document_line({"[A_1]": CANARY}), line, document_line({})]
    (tmp_path / "vault").write_text("\n".join(lines) + "\n", encoding="utf-8")
    with pytest.raises(UserError, match="line 3") as error:
        load_vault(tmp_path / "vault")
    assert_one_line_without_canary(error)


def test_a_vault_cut_within_a_line_is_refused(tmp_path):
    vault_of([[(CANARY, "EMAIL")], [("é", "CITY")]], tmp_path / "vault")
    whole = (tmp_path / "vault").read_bytes()
    for end in range(0, len(whole), 3):
        (tmp_path / "vault").write_bytes(whole[:end])
        if whole[end : end + 1] == b"\n" or whole[end - 1 : end] == b"\n":
            continue
        with pytest.raises(UserError) as error:
            load_vault(tmp_path / "vault")
        assert_one_line_without_canary(error)


def test_bytes_that_are_not_utf8_are_refused(tmp_path):
    (tmp_path / "vault").write_bytes(
        b'{"vault_version": 1}\n' + document_line({"[A_1]": "?"}).encode()[:-3] + b'\xff"}}'
    )
    with pytest.raises(UserError, match="line 2") as error:
        load_vault(tmp_path / "vault")
    assert_one_line_without_canary(error)


# Fakes

values_to_fake = st.lists(
    st.tuples(
        st.sampled_from(replacements.TYPES.split()), pieces_of.filter(bool), st.sampled_from(["en", "fr", "und"])
    ),
    max_size=8,
)


def bare(value: str) -> str:
    """Letters and digits, without case and accents; the value itself if it has none."""
    return "".join(c for c in unicodedata.normalize("NFKD", value.casefold()) if c.isalnum()) or value


@settings(max_examples=40, deadline=None)
@given(values_to_fake, st.randoms(use_true_random=False))
def test_a_fake_does_not_depend_on_what_came_before(faker, values, shuffler):
    here = {value: one_value(faker, *value) for value in values}
    shuffler.shuffle(values)
    fresh = Replacer("fake")  # remembers nothing
    random.seed(shuffler.random())
    assert {value: one_value(fresh, *value) for value in values} == here
    assert all(bare(fake) != bare(value) for (_, value, _), fake in here.items())


def test_fakes_are_the_same_in_another_process_and_importing_does_no_work(faker):
    cases = [(label, CANARY, language) for label in replacements.TYPES.split() for language in LOCALES]
    program = f"""
import sys
from pii.redaction import replacements
from pii.synthetic import values
values.POOL_SIZE = {POOL_SIZE}
assert not {{"faker", "torch", "transformers"}} & set(sys.modules)
replacer = replacements.Replacer("fake")
for label, value, language in {cases[::-1]}:
    print(ascii(replacer.redact(value, [replacements.Span(0, len(value), label, 1.0)], language)))
"""
    environment = {**os.environ, "PYTHONHASHSEED": "77"}
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == [ascii(one_value(faker, *case)) for case in cases[::-1]]


@pytest.mark.parametrize("language", LOCALES)
def test_no_fake_is_its_value_even_where_a_type_has_few(faker, language):
    """The values are those that values.py makes, so that small types often draw what they must not."""
    for label in replacements.TYPES.split():
        for i in range(15):
            value = one_value(faker, label, f"{CANARY}{i}", language)
            for text in (value, value.upper(), f"{value}."):
                fake = one_value(faker, label, text, language)
                assert bare(fake) != bare(text) and fake != f"[{label}]", label


def test_a_type_without_another_value_gets_its_label(faker, monkeypatch):
    monkeypatch.setattr(replacements.Values, "expand", lambda self, pattern: "0000")
    assert one_value(faker, "PIN", "0000") == "[PIN]"
    assert one_value(faker, "PIN", "00 00") == "[PIN]"


def remainder_97(iban: str) -> int:
    compact = iban.replace(" ", "")
    return int("".join(str(int(c, 36)) for c in compact[4:] + compact[:4])) % 97


def luhn_holds(number: str) -> bool:
    digits = [int(d) for d in re.sub(r"\D", "", number)]
    return sum(digits[-1::-2] + [sum(divmod(2 * d, 10)) for d in digits[-2::-2]]) % 10 == 0


def looks_like(pattern: str) -> Callable[[str], bool]:
    return lambda text: re.fullmatch(pattern, text) is not None


SHAPES = {
    ("EMAIL", "EMAIL_ADDRESS", "email"): looks_like(r"[a-z0-9._-]+@[a-z0-9.-]+\.[a-z]+"),
    ("IBAN", "IBAN_CODE"): lambda text: remainder_97(text) == 1,
    ("CREDITCARDNUMBER", "CREDIT_CARD", "credit_card"): luhn_holds,
    ("IPV4",): looks_like(r"(\d{1,3}\.){3}\d{1,3}"),
    ("IP", "IP_ADDRESS"): looks_like(r"(\d{1,3}\.){3}\d{1,3}|[0-9a-f:]+"),
    ("SSN", "US_SSN", "PHONE_NUMBER", "DATE_TIME", "DATE", "DOB"): looks_like(r".*\d.*"),
    ("PERSON", "PER"): looks_like(r"[^\W\d].* [^\W\d].*"),
    ("GPE", "CITY", "ORGANIZATION", "COMPANYNAME", "STREET_ADDRESS", "first_name", "GIVENNAME"): looks_like(
        r"[^\W\d].+"
    ),
}


@pytest.mark.parametrize(("labels", "holds"), SHAPES.items())
def test_a_fake_is_of_the_type_that_its_label_means(faker, labels, holds):
    for label, language, i in itertools.product(labels, ["en", "fr"], range(10)):
        assert holds(one_value(faker, label, f"Value {i}", language)), label


@pytest.mark.parametrize("label", ["NRP", "MISC", "CARD", "SURNAME_F", "MONTHS", "NIR", "first", "é"])
def test_a_label_that_means_nothing_stays_a_label(faker, label):
    assert one_value(faker, label, CANARY) == f"[{label}]"


def test_the_types_are_those_of_the_synthetic_data():
    keys = {key for language in LOCALES for text in sentences.read_skeletons(language) for key in find_keys(text)}
    assert set(replacements.TYPES.split()) == keys and len(keys) == 56


def find_keys(skeleton: str) -> list[str]:
    return re.findall(r"\{([A-Z][A-Z0-9]+)\}", skeleton)


def test_capital_and_small_letters_stay_so(faker):
    for label, i in itertools.product(["FIRSTNAME", "CITY", "PERSON", "COMPANYNAME"], range(10)):
        assert one_value(faker, label, f"MARIE {i}", "fr").isupper()
        assert one_value(faker, label, f"marie {i}", "fr").islower()
        assert not one_value(faker, label, f"Marie {i}").islower()


def test_fakes_follow_language_seed_and_key(faker):
    emails = [f"john{i}@example.com" for i in range(8)]

    def fakes(language: str = "en", **options: object) -> list[str]:
        return [one_value(Replacer("fake", **options), "EMAIL", email, language) for email in emails]

    assert fakes() == fakes("und") == fakes("en-GB") == fakes("de") == fakes("EN", seed=0)
    assert fakes("fr") == fakes("fr_CA") and fakes(key=KEY) == fakes(key=KEY)
    different = [fakes(), fakes("fr"), fakes(seed=1), fakes(seed=-1), fakes(key=KEY), fakes(key=KEY, seed=1)]
    assert all(not set(left) & set(right) for left, right in itertools.combinations(different, 2))
