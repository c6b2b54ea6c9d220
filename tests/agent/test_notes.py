"""Notes as hostile input: whatever a user writes, what is taken has the form that it must have, or nothing is taken."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agent.catalogue import Machine
from agent.contract.canonical import canonical_json, parse_canonical
from agent.contract.facts import EnvironmentSet, HostFacts, PolicySet, ProbeSet, TokenSet, UvSet
from agent.events import Window
from agent.notes import KINDS, MAX_NOTE_BYTES, Note, NoteError, encode_note, read_note, with_event_logs

MACHINE = Machine(
    platform="windows",
    env={"USERPROFILE": r"C:\Users\jane", "PATH": r"C:\secret", "UV_INDEX_URL": "https://jane:pw@index"},
    project_roots=(r"C:\src",),
    answers={"cache_dir": r"D:\uv"},
)
SETS = {
    facts.kind: facts
    for facts in (
        ProbeSet(catalogue="etag", probes=()),
        UvSet(found=()),
        EnvironmentSet(event_logs={"srp": "read"}),
        TokenSet(sids=("S-1-1-0",)),
        PolicySet(collections={}),
        HostFacts(name="forged", platform="windows", os="Windows", attested=True),
    )
}
WINDOWS = (Window(begun=100.0, ended=101.5, process_id=7, paths=frozenset(("ab" * 16,))),)


def note() -> dict[str, Any]:
    value: dict[str, Any] = json.loads(encode_note(SETS, MACHINE, WINDOWS, now=1_800_000_000.9))
    return value


def read(value: object) -> Note:
    return read_note(json.dumps(value).encode())


def test_a_note_is_read_as_it_was_left() -> None:
    found = read_note(encode_note(SETS, MACHINE, WINDOWS, now=1_800_000_000.9))
    assert found.made_at == 1_800_000_000
    assert found.windows == WINDOWS
    assert found.machine.env == {"USERPROFILE": r"C:\Users\jane"}
    assert found.machine.project_roots == MACHINE.project_roots
    assert dict(found.machine.answers) == dict(MACHINE.answers)
    assert set(found.bodies) == set(KINDS)


def test_a_note_speaks_neither_of_the_host_nor_of_policies_nor_of_secrets() -> None:
    content = encode_note(SETS, MACHINE, WINDOWS, now=0).decode()
    assert "forged" not in content
    assert "gpo" not in content
    assert "secret" not in content
    assert "pw@" not in content


@pytest.mark.parametrize(
    ("place", "value", "words"),
    [
        (("form",), 2, "form"),
        (("made_at",), -1, "made_at"),
        (("made_at",), True, "made_at"),
        (("made_at",), 1e9, "made_at"),
        (("bodies", "host"), "{}", "bodies"),
        (("bodies", "probes"), "[]", "bodies.probes"),
        (("bodies", "probes"), "{ }", "bodies.probes"),
        (("bodies", "probes"), '{"a":1.5}', "bodies.probes"),
        (("bodies", "probes"), '{"a":1,"a":2}', "bodies.probes"),
        (("bodies", "probes"), "{}" * 20, "bodies.probes"),
        (("bodies", "uv"), None, "bodies.uv"),
        (("bodies", "environment"), '{"attested":true}', "bodies.environment"),
        (("machine", "platform"), "solaris", "machine.platform"),
        (("machine", "env", "PATH"), "C:\\", "machine.env"),
        (("machine", "env", "USERPROFILE"), "C:\\a\nb", "machine.env"),
        (("machine", "env", "USERPROFILE"), "C:\\" + "a" * 2000, "machine.env"),
        (("machine", "project_roots"), ["C:\\"] * 17, "machine.project_roots"),
        (("machine", "answers"), [], "machine.answers"),
        (("windows",), [{}], "windows.begun"),
        (("windows",), [{"begun": 0, "ended": 10**12, "process_id": 1, "paths": []}], "windows: longer"),
        (("windows",), [{"begun": 9, "ended": 1, "process_id": 1, "paths": []}], "windows: longer"),
        (("windows",), [{"begun": 0, "ended": 1, "process_id": 1, "paths": ["C:\\x"]}], "windows.paths"),
        (("windows",), [{"begun": 0, "ended": 1, "process_id": 1, "paths": []}] * 31, "windows"),
    ],
)
def test_what_a_note_must_not_hold_is_refused_with_its_place(place: tuple[str, ...], value: object, words: str) -> None:
    whole = note()
    part = whole
    for name in place[:-1]:
        part = part[name]
    part[place[-1]] = value
    with pytest.raises(NoteError, match=words):
        read(whole)


def test_a_missing_set_is_refused() -> None:
    whole = note()
    del whole["bodies"]["token"]
    with pytest.raises(NoteError, match="bodies"):
        read(whole)


@pytest.mark.parametrize("content", [b"", b"[]", b"null", b"\xff\xfe", b"{", b"[" * 100_000, b'{"form":1}'])
def test_what_is_no_note_is_refused(content: bytes) -> None:
    with pytest.raises(NoteError):
        read_note(content)


def test_a_note_that_is_too_large_is_not_even_parsed() -> None:
    with pytest.raises(NoteError, match="too large"):
        read_note(b"[" * (MAX_NOTE_BYTES + 1))


def test_a_refusal_repeats_nothing_of_the_note() -> None:
    whole = note()
    whole["machine"]["env"]["S3CRET"] = "s3cret"
    whole["bodies"]["probes"] = '{"s3cret":}'
    for _ in range(2):
        with pytest.raises(NoteError) as refusal:
            read(whole)
        assert "s3cret" not in str(refusal.value).lower()
        whole["bodies"]["probes"] = "{}"


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=12,
)


@settings(max_examples=150, deadline=None)
@given(where=st.sampled_from(sorted(note())), value=JSON)
def test_no_value_gets_past_the_form(where: str, value: Any) -> None:
    whole = note()
    whole[where] = value
    try:
        found = read(whole)
    except NoteError:
        return
    assert set(found.bodies) == set(KINDS)
    assert all(canonical_json(parse_canonical(text)) == text for text in found.bodies.values())
    assert len(found.windows) <= 30
    assert all(0 <= window.ended - window.begun <= 3600 for window in found.windows)


@settings(max_examples=200, deadline=None)
@given(st.data())
def test_no_damage_of_bytes_does_more_than_refuse(data: st.DataObject) -> None:
    content = bytearray(encode_note(SETS, MACHINE, WINDOWS, now=1))
    for _ in range(data.draw(st.integers(1, 6))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    try:
        found = read_note(bytes(content))
    except NoteError:
        return
    assert set(found.bodies) == set(KINDS)


def test_only_the_systems_half_tells_how_the_logs_stand() -> None:
    body = note()["bodies"]["environment"]
    assert '"event_logs":{"srp":"read"}' in body
    assert "event_logs" not in with_event_logs(body, {})
    told = parse_canonical(with_event_logs(body, {"applocker-exe": "behind"}))
    assert isinstance(told, dict)
    assert told["event_logs"] == {"applocker-exe": "behind"}
