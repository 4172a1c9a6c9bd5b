"""The vault: numbered placeholders can be undone, its file is for its owner alone, and damage is one line."""

import hashlib
import json
import os
import tempfile
from pathlib import Path

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from pii.common import UserError
from pii.redaction.replacements import Replacer, Span
from pii.redaction.vault import Vault, load_vault, restore
from tests.redaction.test_replacements import (
    CANARY,
    Document,
    assert_one_line_without_canary,
    documents,
    redacted,
    text_of,
)

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
