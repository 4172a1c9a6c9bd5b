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
@example([[("[EMAIL_2]", "EMAIL"), ("[EMAIL_1]", "A"), ("[A_1]", "EMAIL"), ("[", None), ("EMAIL_3]", "NRP")]])
@example([[]])
def test_restoring_what_was_redacted_gives_the_original(batch):
    with tempfile.TemporaryDirectory() as folder:
        texts = vault_of(batch, Path(folder) / "vault")
        vault = load_vault(Path(folder) / "vault")
    assert [restore(vault, text) for text in texts] == [text_of(document) for document in batch]
    assert [restore(vault, text) for text in texts] == [text_of(document) for document in batch]  # and once more


def test_originals_with_one_redacted_text_come_back_in_their_order(tmp_path):
    batch = [[("Hi ", None), (name, "NAME")] for name in ("Ann", "Bob", "Ann", "[NAME_1]", "Eve")]
    batch[3] = [("Hi [NAME_1]", None)]
    texts = vault_of(batch, tmp_path / "vault")
    assert len(set(texts)) == 1
    vault = load_vault(tmp_path / "vault")
    assert [restore(vault, text) for text in texts] == ["Hi Ann", "Hi Bob", "Hi Ann", "Hi [NAME_1]", "Hi Eve"]


def test_an_edited_text_is_restored_if_the_vault_holds_one_document(tmp_path):
    vault_of([[("Hi ", None), ("Ann", "NAME"), (" and ", None), ("[NAME_1]", "NAME")]], tmp_path / "vault")
    vault = load_vault(tmp_path / "vault")
    edited = "[NAME_3] [NAME_2]: [[NAME_2]] [NAME_1] [NAME_4] [name_2]"  # [NAME_1] stood in the original
    assert restore(vault, edited) == "[NAME_1] Ann: [Ann] [NAME_1] [NAME_4] [name_2]"


@pytest.mark.parametrize("others", [[], [[("a", "EMAIL")], [("a", "EMAIL")]], [[("a", "EMAIL")], []]])
def test_an_unknown_text_is_refused_unless_one_document_is_held(others, tmp_path):
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
        vault_of([[("a", "EMAIL")]], tmp_path / "vault")
    old = {path: path.read_bytes() for path in tmp_path.iterdir()}
    with pytest.raises(type(mishap)), Vault.create(tmp_path / "vault") as vault:
        redacted(Replacer("numbered", vault=vault), [(CANARY, "EMAIL")])
        raise mishap
    assert {path: path.read_bytes() for path in tmp_path.iterdir()} == old


def test_a_new_vault_replaces_an_old_one_and_makes_its_folder(tmp_path):
    path = tmp_path / "new" / "vault"
    vault_of([[("a", "EMAIL")]], path)
    path.chmod(0o644)
    (text,) = vault_of([[("b", "EMAIL")]], path)
    assert restore(load_vault(path), text) == "b" and path.stat().st_mode & 0o777 == 0o600


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
