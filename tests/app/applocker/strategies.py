"""Policies, files, tokens and machines for hypothesis: few different words, so that things often nearly match."""

from __future__ import annotations

import uuid
from dataclasses import replace

from hypothesis import strategies as st

from app.applocker.model import (
    COLLECTION_TYPES,
    Action,
    Collection,
    Condition,
    Drive,
    Element,
    File,
    FileHash,
    HashCondition,
    HashRule,
    Machine,
    Mode,
    PathCondition,
    PathRule,
    Policy,
    PublisherCondition,
    PublisherRule,
    Rule,
    Token,
    in_order,
)

NAMES = (
    "Users",
    "alice",
    "Tools",
    "uv",
    "App Data",
    "x.exe",
    "uv.exe",
    "tool12.exe",
    "a",
    "Windows",
    "System32",
    "straße",
)
NAMES += ("SysWOW64", "Program Files", "Program Files (x86)", "Temp", ".tmpAB", "é.DLL", "x.dll", "TOOLS", "a.b.c")
PIECES = ("*", "?", "to*", "*.exe", "u?", "*l1*", "x*", "*a*", "uv*.exe", ".tmp*", "*e", "**")
ROOTS = (
    "C:",
    "C:\\Windows",
    "C:\\Program Files",
    "C:\\Windows\\System32",
    "C:\\Windows\\SysWOW64",
    "D:",
    "\\\\srv\\share",
)
RULE_ROOTS = (*ROOTS, "%OSDRIVE%", "%WINDIR%", "%system32%", "%PROGRAMFILES%", "%HOT%", "%REMOVABLE%", "%TEMP%", "*")
SIDS = ("S-1-1-0", "S-1-5-32-544", "S-1-5-32-545", "S-1-5-21-1-2-3-1000", "S-1-5-18")
PUBLISHERS = ("O=A, L=B, C=US", "O=B, C=DE", "CN=X")
TEXTS = ("UV", "uv", "PYTHON", "ruff ®", "")
VERSIONS = ((0, 0, 0, 0), (1, 0, 0, 0), (1, 10, 0, 0), (1, 9, 65535, 1), (2, 0, 0, 0))
HASHES = tuple(f"{number:064X}" for number in range(4))

MACHINES = (Machine(), Machine(devices=(("\\Device\\HarddiskVolume3", "C:"), ("\\Device\\HarddiskVolume5", "D:"))))

names = st.sampled_from(NAMES)
guids = st.integers(min_value=0, max_value=2**128 - 1).map(lambda number: str(uuid.UUID(int=number)))

file_paths = st.builds(
    lambda root, parts: "\\".join((root, *parts)), st.sampled_from(ROOTS), st.lists(names, min_size=1, max_size=4)
)
ODD_PATTERNS = ("*", "**", "*.*", "*.exe", "%WINDIR%*", "%PROGRAMFILES%?Tools\\*", "*dir*", "*drive*\\x.exe")
ODD_PATTERNS += ("?:\\Tools\\*", "%*%\\a\\*", "*\\Device\\*", "*volume3*", "*3\\Tools\\*", "*tools*", "C:/Tools/*")
ODD_PATTERNS += ("\\Device\\HarddiskVolume3\\*", "\\Device\\Mup\\srv\\share\\*", "C:\\Tools<exe", 'C:\\Tools\\a"exe')
ODD_PATTERNS += ("C:\\Tools\\>>>>>>>.exe", "C:\\TOOLS~1\\*", "C:\\*\\..\\x.exe")
odd_patterns = st.sampled_from(ODD_PATTERNS)
patterns = st.one_of(
    st.builds(
        lambda root, parts: "\\".join((root, *parts)),
        st.sampled_from(RULE_ROOTS),
        st.lists(st.one_of(names, st.sampled_from(PIECES)), min_size=1, max_size=4),
    ),
    odd_patterns,
)
path_conditions = st.builds(PathCondition, path=patterns)


@st.composite
def publisher_conditions(draw: st.DrawFn) -> PublisherCondition:
    """Exact fields, `*`, and some with wildcards within."""
    low, high = sorted((draw(st.sampled_from(VERSIONS)), draw(st.sampled_from(VERSIONS))))
    return PublisherCondition(
        publisher=draw(st.sampled_from((*PUBLISHERS, "*", "o=a, l=b, c=us", "O=A*"))),
        product=draw(st.sampled_from((*TEXTS, "*", "U*"))),
        binary=draw(st.sampled_from((*TEXTS, "*", "?", "*V*", "PY?HON"))),
        low=draw(st.sampled_from((None, low))),
        high=draw(st.sampled_from((None, high))),
    )


file_hashes = st.one_of(
    st.builds(
        FileHash,
        data=st.sampled_from(HASHES),
        type=st.sampled_from(("SHA256", "SHA256", "SHA256Flat")),
        source_name=st.one_of(st.none(), names),
        source_length=st.one_of(st.none(), st.integers(min_value=0, max_value=2**40)),
    ),
    st.builds(FileHash, data=st.just("AB" * 20), type=st.just("SHA1")),
)
hash_conditions = st.builds(HashCondition, hashes=st.lists(file_hashes, min_size=1, max_size=3).map(tuple))
conditions: st.SearchStrategy[Condition] = st.one_of(path_conditions, publisher_conditions(), hash_conditions)

# Any text that XML can hold; control characters in names become spaces when they are read.
texts = st.text(st.characters(exclude_categories=("Cs", "Cc"), exclude_characters="\ufffe\uffff"), max_size=30)


@st.composite
def rules(draw: st.DrawFn, rule_id: str) -> Rule:
    """One rule of any kind."""
    kind = draw(st.sampled_from((PathRule, PathRule, PublisherRule, HashRule)))
    common = {
        "id": rule_id,
        "name": draw(texts.filter(bool)),
        "description": draw(texts),
        "sid": draw(st.sampled_from(SIDS)),
        "action": draw(st.sampled_from((Action.ALLOW, Action.ALLOW, Action.DENY))),
    }
    if kind is HashRule:
        return HashRule(**common, condition=draw(hash_conditions))
    exceptions = tuple(draw(st.lists(conditions, max_size=draw(st.sampled_from((0, 0, 2, 9))))))
    if kind is PathRule:
        return PathRule(**common, condition=draw(path_conditions), exceptions=exceptions)
    return PublisherRule(**common, condition=draw(publisher_conditions()), exceptions=exceptions)


@st.composite
def extensions(draw: st.DrawFn) -> Element:
    """The known extensions, and sometimes one that nobody knows."""
    services = draw(st.sampled_from((None, "NotConfigured", "Enabled", "ServicesOnly")))
    inner = (Element(name="Services", attributes=(("EnforcementMode", services),)),) if services else ()
    unknown = draw(st.one_of(st.just(()), st.tuples(elements())))
    threshold = Element(name="ThresholdExtensions", children=inner)
    return Element(name="RuleCollectionExtensions", children=(threshold, Element(name="RedstoneExtensions"), *unknown))


@st.composite
def elements(draw: st.DrawFn) -> Element:
    """An element of the future."""
    children = draw(
        st.lists(st.sampled_from((Element(name="n:Inner"), Element(name="Leaf", children=(" ",)))), max_size=2)
    )
    text = draw(st.sampled_from(((), ("some <text>",))))
    return Element(
        name="n:Future",
        attributes=(("xmlns:n", "urn:future"), ("a", draw(texts))),
        children=(*text, *children),
    )


@st.composite
def policies(draw: st.DrawFn, max_rules: int = 8, with_extensions: bool = True) -> Policy:
    """A policy in order."""
    counts = st.sampled_from((0, *(max_rules, max_rules - 1, max_rules // 2) * 3))
    types = draw(st.lists(st.sampled_from(COLLECTION_TYPES), unique=True, min_size=1, max_size=2))
    ids = iter(draw(st.lists(guids, unique=True, min_size=2 * max_rules, max_size=2 * max_rules)))
    return in_order(
        Policy(
            collections=tuple(
                Collection(
                    type=type,
                    mode=draw(st.sampled_from((None, *Mode))),
                    rules=tuple(draw(rules(next(ids))) for _ in range(draw(counts))),
                    extensions=draw(st.one_of(*[st.none()] * 5, extensions())) if with_extensions else None,
                )
                for type in types
            )
        )
    )


hashes_of_files = st.one_of(
    st.none(), st.sampled_from(HASHES).map(lambda data: f"0x{data.lower()}"), st.sampled_from(HASHES)
)
files = st.builds(
    File,
    path=file_paths,
    resolves_to=st.one_of(st.none(), st.none(), file_paths),
    drive=st.sampled_from((Drive.FIXED, Drive.FIXED, Drive.HOT, Drive.REMOVABLE)),
    publisher=st.one_of(st.none(), st.sampled_from(PUBLISHERS)),
    product=st.one_of(st.none(), st.sampled_from(TEXTS)),
    binary=st.one_of(st.none(), st.sampled_from(TEXTS)),
    version=st.one_of(st.none(), st.sampled_from(VERSIONS)),
    authenticode_sha256=hashes_of_files,
    flat_sha256=hashes_of_files,
    sha1=st.one_of(st.none(), st.just("ab" * 20)),
    size_bytes=st.one_of(st.none(), st.none(), st.integers(0, 9)),
)
sid_sets = st.frozensets(st.sampled_from(SIDS[:4]), max_size=3)
user_sids = sid_sets.map(lambda sids: sids | {"S-1-1-0"})
tokens = st.builds(
    Token,
    sids=st.one_of(*[user_sids] * 7, st.just(frozenset({"S-1-1-0", "S-1-5-18"}))),
    deny_only=sid_sets,
    linked=sid_sets,
)
machines = st.sampled_from(MACHINES)


@st.composite
def files_like(draw: st.DrawFn, policy: Policy) -> File:
    """A file made after one of the policy's path rules or exceptions, so that it matches, or just misses."""
    file = draw(files)
    conditions = [condition for _, rule in policy.rules() for condition in (rule.condition, *rule.exceptions)]
    paths = [condition.path for condition in conditions if isinstance(condition, PathCondition)]
    if not paths or draw(st.integers(0, 3)) == 0:
        return file
    path = draw(st.sampled_from(paths))
    for variable, folders in VARIABLES.items():
        if path.upper().startswith(variable):
            path = draw(st.sampled_from(folders)) + path[len(variable) :]
    while "*" in path:
        path = path.replace("*", draw(st.sampled_from(FILLINGS)), 1)
    while "?" in path:
        path = path.replace("?", draw(st.sampled_from("aZ9é")), 1)
    if path.startswith("\\") and not path.startswith("\\\\"):
        path = "C:" + path
    if not path.startswith("\\\\") and path[1:2] != ":":
        path = f"C:\\Users\\{path}"
    if any(sign in path for sign in '<>"%') or path.endswith(("\\", ".")) or ":" in path[2:]:
        return file
    return replace(file, path=draw(st.sampled_from((path, path.upper(), path + "x"))), resolves_to=None)


VARIABLES = {
    "%OSDRIVE%": ("C:",),
    "%WINDIR%": ("C:\\Windows",),
    "%SYSTEM32%": ("C:\\Windows\\System32", "C:\\Windows\\SysWOW64"),
    "%PROGRAMFILES%": ("C:\\Program Files", "C:\\Program Files (x86)", "D:\\Program Files"),
    "%HOT%": ("E:", "C:"),
    "%REMOVABLE%": ("F:",),
}
FILLINGS = ("", "a", "x.exe", "deep\\er", "Tools", "\\a\\b.exe")
