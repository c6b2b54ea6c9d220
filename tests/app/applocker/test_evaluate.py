"""How files are judged: one row for each sentence of the documentation, and for each question it leaves open."""

from __future__ import annotations

import time

import pytest

from app.applocker.evaluate import NOT_CONTROLLED, collection_of, compile_policy, evaluate
from app.applocker.model import (
    ADMINISTRATORS,
    EVERYONE,
    STANDARD_USER,
    Action,
    Collection,
    Confidence,
    Drive,
    Effect,
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
    Verdict,
)

HASH, OTHER_HASH = "AB" * 32, "CD" * 32
VENDOR = "O=VENDOR INC., L=OSLO, C=NO"
ADMIN = Token(sids=STANDARD_USER.sids | {ADMINISTRATORS})


def path(
    text: str, action: Action = Action.ALLOW, sid: str = EVERYONE, but: tuple[str, ...] = (), id: str = "a"
) -> Rule:
    exceptions = tuple(PathCondition(path=each) for each in but)
    return PathRule(id=id, name=id, sid=sid, action=action, condition=PathCondition(path=text), exceptions=exceptions)


def signed(publisher: str = VENDOR, id: str = "p", action: Action = Action.ALLOW, **fields: object) -> Rule:
    return PublisherRule(id=id, name=id, action=action, condition=PublisherCondition(publisher=publisher, **fields))


def hashed(data: str = HASH, type: str = "SHA256", id: str = "h", action: Action = Action.ALLOW) -> Rule:
    return HashRule(id=id, name=id, action=action, condition=HashCondition(hashes=(FileHash(data=data, type=type),)))


def policy(*rules: Rule, type: str = "Exe", mode: Mode | None = Mode.ENABLED) -> Policy:
    return Policy(collections=(Collection(type=type, mode=mode, rules=rules),))


A, D, N = Verdict.ALLOWED, Verdict.DENIED, Verdict.DENIED_BY_DEFAULT
HIGH, MEDIUM, LOW = Confidence.HIGH, Confidence.MEDIUM, Confidence.LOW

PATHS = [
    # rule, file, verdict, confidence
    ("%OSDRIVE%\\Tools\\*", "C:\\Tools\\a.exe", A, HIGH),
    ("%OSDRIVE%\\Tools\\*", "C:\\Tools\\x\\y\\a.exe", A, HIGH),
    ("%OSDRIVE%\\Tools\\*", "c:\\TOOLS\\a.exe", A, HIGH),
    ("%OSDRIVE%\\Tools\\*", "D:\\Tools\\a.exe", N, HIGH),
    ("%OSDRIVE%\\Tools\\*", "C:\\Tools2\\a.exe", N, HIGH),
    ("%OSDRIVE%\\Tools*", "C:\\Tools2\\a.exe", A, HIGH),
    ("C:\\Tools\\*", "C:\\Tools\\a.exe", A, HIGH),
    ("c:\\tools\\A.EXE", "C:\\Tools\\a.exe", A, HIGH),
    ("*", "\\\\server\\share\\a.exe", A, HIGH),
    ("\\\\server\\share\\*", "\\\\SERVER\\share\\a.exe", A, HIGH),
    ("\\\\server\\share\\*", "\\\\other\\share\\a.exe", N, HIGH),
    ("\\Device\\Mup\\server\\share\\*", "\\\\server\\share\\a.exe", A, HIGH),
    ("%WINDIR%\\*", "C:\\Windows\\System32\\cmd.exe", A, HIGH),
    ("%WINDIR%\\System32\\*", "C:\\Windows\\System32\\cmd.exe", A, HIGH),
    ("%OSDRIVE%\\Windows\\System32\\cmd.exe", "C:\\Windows\\System32\\cmd.exe", A, HIGH),
    ("%SYSTEM32%\\*", "C:\\Windows\\System32\\cmd.exe", A, HIGH),
    ("%SYSTEM32%\\*", "C:\\Windows\\SysWOW64\\cmd.exe", A, HIGH),
    ("%SYSTEM32%\\*", "C:\\Windows\\cmd.exe", N, HIGH),
    ("%PROGRAMFILES%\\*", "C:\\Program Files\\a\\a.exe", A, HIGH),
    ("%PROGRAMFILES%\\*", "C:\\Program Files (x86)\\a\\a.exe", A, HIGH),
    ("%PROGRAMFILES%\\*", "D:\\Program Files\\a\\a.exe", N, HIGH),
    ("%USERPROFILE%\\*", "C:\\Users\\a\\a.exe", N, HIGH),
    ("%TEMP%\\*", "C:\\Users\\a\\AppData\\Local\\Temp\\a.exe", N, HIGH),
    ("%APPDATA%\\*", "C:\\Users\\a\\AppData\\Roaming\\a.exe", N, HIGH),
    ("%OSDRIVE%\\Users\\*\\AppData\\Local\\uv\\*", "C:\\Users\\a\\AppData\\Local\\uv\\uv.exe", A, HIGH),
    ("%OSDRIVE%\\Users\\*\\AppData\\Local\\uv\\*", "C:\\Users\\a\\Downloads\\AppData\\Local\\uv\\x.exe", A, HIGH),
    ("*\\chrome.exe", "C:\\Users\\a\\chrome.exe", A, HIGH),
    ("*\\chrome.exe", "C:\\Users\\a\\chrome.exe.exe", N, HIGH),
    ("*\\doxy*.exe", "D:\\x\\doxygen.exe", A, HIGH),
    ("uv.exe", "C:\\Tools\\uv.exe", N, HIGH),
    ("Tools\\*", "C:\\Tools\\uv.exe", N, HIGH),
    # What the documentation doesn't say, or not for certain.
    ("%OSDRIVE%\\Tools\\uv?.exe", "C:\\Tools\\uvx.exe", A, MEDIUM),
    ("%OSDRIVE%\\Tools\\uv?.exe", "C:\\Tools\\uv.exe", N, MEDIUM),
    ("%OSDRIVE%\\Tools\\uv?.exe", "C:\\Other\\uvx.exe", N, HIGH),
    ("%OSDRIVE%\\Tools", "C:\\Tools\\a.exe", N, MEDIUM),
    ("%OSDRIVE%\\Tools\\", "C:\\Tools\\a.exe", N, LOW),
    ("C:/Tools/*", "C:\\Tools\\a.exe", N, LOW),
    ("%WINDIR%\\..\\Tools\\*", "C:\\Tools\\a.exe", N, LOW),
    ("C:\\Windows\\..\\Tools\\*", "C:\\Windows\\a.exe", N, HIGH),
    ("\\\\?\\C:\\Tools\\*", "C:\\Tools\\a.exe", N, LOW),
    ("\\\\?\\C:\\Tools\\*", "C:\\Other\\a.exe", N, HIGH),
    ("C:\\PROGRA~1\\Foo\\*", "C:\\Program Files\\Foo\\foo.exe", N, HIGH),
    ("C:\\PROGRA~1\\Foo\\*", "C:\\PROGRA~1\\Foo\\foo.exe", N, LOW),
    ("%PROGRAMFILES%\\Foo\\*", "C:\\PROGRA~1\\Foo\\foo.exe", N, LOW),
    ("C:\\Tools<exe", "C:\\Tools\\a.exe", N, HIGH),
    ("C:\\Tools\\<.exe", "C:\\Tools\\a.exe", A, LOW),
    ("\\Device\\HarddiskVolume3\\Tools\\*", "C:\\Tools\\a.exe", N, LOW),
    ("*drive*", "C:\\Tools\\a.exe", A, LOW),
    ("*harddisk*", "C:\\Tools\\a.exe", N, LOW),
    # How a file's path may be given.
    ("%OSDRIVE%\\Tools\\*", "\\\\?\\C:\\Tools\\a.exe", A, HIGH),
    ("%OSDRIVE%\\Tools\\*", "C:/Tools/x/../a.exe", A, HIGH),
    ("C:\\Tools\\*", "%OSDRIVE%\\TOOLS\\A.EXE", A, HIGH),
    ("C:\\Windows\\SysWOW64\\*", "%SYSTEM32%\\CMD.EXE", N, MEDIUM),
    ("C:\\Tools\\*", "\\Device\\HarddiskVolume9\\Tools\\a.exe", N, LOW),
    # Alternate streams.
    ("%OSDRIVE%\\Tools\\*", "C:\\Tools\\file.txt:evil.exe", A, HIGH),
    ("%OSDRIVE%\\Tools\\*", "C:\\Tools:evil.exe", N, HIGH),
    ("%OSDRIVE%\\Tools:*", "C:\\Tools:evil.exe", A, MEDIUM),
    ("%OSDRIVE%\\*", "C:\\Tools:evil.exe", A, HIGH),
]


@pytest.mark.parametrize(("rule", "file", "verdict", "confidence"), PATHS)
def test_paths(rule: str, file: str, verdict: Verdict, confidence: Confidence) -> None:
    decision = evaluate(policy(path(rule)), File(path=file), STANDARD_USER, collection="Exe")
    assert (decision.verdict, decision.confidence) == (verdict, confidence), decision.doubts


def test_a_doubt_names_its_question_and_origin() -> None:
    decision = evaluate(policy(path("C:/Tools/*")), File(path="C:\\Tools\\a.exe"), STANDARD_USER)
    (doubt,) = decision.doubts
    assert doubt.code == "rule-forward-slash"
    assert doubt.question.endswith("?")
    assert "FsRtlIsNameInExpression" in doubt.origin


@pytest.mark.parametrize(
    ("rule", "opened", "real", "verdict", "confidence", "code"),
    [
        ("%OSDRIVE%\\real\\*", "C:\\link\\x.exe", "C:\\real\\x.exe", A, MEDIUM, "file-link-target"),
        ("%OSDRIVE%\\link\\*", "C:\\link\\x.exe", "C:\\real\\x.exe", N, LOW, "file-link-path"),
        ("%OSDRIVE%\\*", "C:\\link\\x.exe", "C:\\real\\x.exe", A, HIGH, None),
        ("X:\\*", "X:\\x.exe", "\\\\srv\\apps\\x.exe", N, MEDIUM, "file-mapped-drive"),
        ("\\\\srv\\apps\\*", "X:\\x.exe", "\\\\srv\\apps\\x.exe", A, MEDIUM, "file-mapped-drive"),
        (
            "%PROGRAMFILES%\\Foo\\*",
            "C:\\PROGRA~1\\Foo\\f.exe",
            "C:\\Program Files\\Foo\\f.exe",
            A,
            LOW,
            "file-short-name",
        ),
    ],
)
def test_the_real_path_counts(
    rule: str, opened: str, real: str, verdict: Verdict, confidence: Confidence, code: str | None
) -> None:
    decision = evaluate(policy(path(rule)), File(path=opened, resolves_to=real), STANDARD_USER)
    assert (decision.verdict, decision.confidence) == (verdict, confidence)
    assert [doubt.code for doubt in decision.doubts] == ([code] if code else [])


@pytest.mark.parametrize(
    ("rule", "drive", "verdict"),
    [
        ("%HOT%\\*", Drive.HOT, A),
        ("%HOT%\\*", Drive.REMOVABLE, N),
        ("%HOT%\\*", Drive.FIXED, N),
        ("%REMOVABLE%\\tools\\*", Drive.REMOVABLE, A),
        ("%REMOVABLE%\\other\\*", Drive.REMOVABLE, N),
        ("E:\\*", Drive.HOT, A),
    ],
)
def test_sticks_and_discs(rule: str, drive: Drive, verdict: Verdict) -> None:
    decision = evaluate(policy(path(rule)), File(path="E:\\tools\\a.exe", drive=drive), STANDARD_USER)
    assert (decision.verdict, decision.confidence) == (verdict, HIGH)


def test_known_volumes_settle_native_paths() -> None:
    machine = Machine(devices=(("\\Device\\HarddiskVolume3", "C:"),))
    native = policy(path("\\Device\\HarddiskVolume3\\Tools\\*"))
    assert evaluate(native, File(path="C:\\Tools\\a.exe"), STANDARD_USER, machine).confidence == HIGH
    assert evaluate(native, File(path="C:\\Tools\\a.exe"), STANDARD_USER, machine).verdict == A
    drive = policy(path("C:\\Tools\\*"))
    assert evaluate(drive, File(path="\\Device\\HarddiskVolume3\\Tools\\a.exe"), STANDARD_USER, machine).verdict == A


def test_a_machine_with_windows_elsewhere() -> None:
    machine = Machine(
        os_drive="D:", windows="D:\\WinNT", system32=("D:\\WinNT\\System32",), program_files=("D:\\Programme",)
    )
    rules = policy(path("%WINDIR%\\*"), path("%PROGRAMFILES%\\*", id="b"))
    assert evaluate(rules, File(path="D:\\WinNT\\a.exe"), STANDARD_USER, machine).rule_id == "a"
    assert evaluate(rules, File(path="D:\\Programme\\a.exe"), STANDARD_USER, machine).rule_id == "b"
    assert evaluate(rules, File(path="C:\\Windows\\a.exe"), STANDARD_USER, machine).verdict == N


# Order, exceptions, users


def test_deny_wins_over_allow_in_any_order() -> None:
    allow, deny = path("*", id="a"), path("C:\\Users\\*", Action.DENY, id="d")
    for rules in ((allow, deny), (deny, allow)):
        decision = evaluate(policy(*rules), File(path="C:\\Users\\a.exe"), STANDARD_USER)
        assert (decision.verdict, decision.rule_id, decision.event_id) == (D, "d", 8004)


def test_all_deciding_rules_are_named() -> None:
    rules = (path("*", id="a"), path("C:\\*", id="b"), path("D:\\*", id="c"))
    decision = evaluate(policy(*rules), File(path="C:\\a.exe"), STANDARD_USER)
    assert [rule.id for rule in decision.rules] == ["a", "b"]
    assert "1 more" in decision.reason


def test_only_deny_rules_deny_everything() -> None:
    rules = policy(path("C:\\Tools\\*", Action.DENY))
    assert evaluate(rules, File(path="C:\\Windows\\notepad.exe"), STANDARD_USER).verdict == N


def test_an_exception_only_withdraws_from_its_rule() -> None:
    windows = path("%WINDIR%\\*", but=("%WINDIR%\\regedit.exe",), id="w")
    helpdesk = path("%WINDIR%\\regedit.exe", sid="S-1-5-21-1-2-3-1500", id="h")
    file = File(path="C:\\Windows\\regedit.exe")
    assert evaluate(policy(windows, helpdesk), file, STANDARD_USER).verdict == N
    member = Token(sids=STANDARD_USER.sids | {"S-1-5-21-1-2-3-1500"})
    assert evaluate(policy(windows, helpdesk), file, member).rule_id == "h"


def test_an_exception_of_a_deny_rule_allows_nothing() -> None:
    deny = path("C:\\Users\\*", Action.DENY, but=("C:\\Users\\*\\uv.exe",), id="d")
    file = File(path="C:\\Users\\a\\uv.exe")
    assert evaluate(policy(deny), file, STANDARD_USER).verdict == N
    assert evaluate(policy(deny, path("*", id="a")), file, STANDARD_USER).rule_id == "a"
    assert evaluate(policy(deny, path("*", id="a")), File(path="C:\\Users\\a\\x.exe"), STANDARD_USER).rule_id == "d"


def test_many_exceptions() -> None:
    rules = policy(path("%WINDIR%\\*", but=tuple(f"%WINDIR%\\Dir{number}\\*" for number in range(40))))
    assert evaluate(rules, File(path="C:\\Windows\\Dir39\\a.exe"), STANDARD_USER).verdict == N
    assert evaluate(rules, File(path="C:\\Windows\\Dir40\\a.exe"), STANDARD_USER).verdict == A


def test_exceptions_carry_doubts_too() -> None:
    decision = evaluate(policy(path("C:\\Tools\\*", but=("C:/Tools/*",))), File(path="C:\\Tools\\a.exe"), STANDARD_USER)
    assert (decision.verdict, decision.confidence) == (A, LOW)


def test_rules_for_others_still_deny() -> None:
    rules = policy(path("*", sid="S-1-5-21-1-2-3-1104"))
    assert evaluate(rules, File(path="C:\\a.exe"), STANDARD_USER).verdict == N


@pytest.mark.parametrize(("type", "verdict"), [("Exe", A), ("Dll", N), ("Script", N), ("Msi", N)])
def test_the_linked_token_counts_for_programs_alone(type: str, verdict: Verdict) -> None:
    rules = policy(path("*", sid=ADMINISTRATORS), type=type)
    token = Token(sids=STANDARD_USER.sids, linked=ADMIN.sids, deny_only=frozenset({ADMINISTRATORS}))
    decision = evaluate(rules, File(path="C:\\a.bin"), token, collection=type)
    assert (decision.verdict, decision.confidence) == (verdict, MEDIUM)
    assert evaluate(rules, File(path="C:\\a.bin"), ADMIN, collection=type).confidence == HIGH


def test_deny_only_sids_count_for_deny_alone() -> None:
    token = Token(sids=STANDARD_USER.sids, deny_only=frozenset({ADMINISTRATORS}))
    allow = policy(path("*", sid=ADMINISTRATORS))
    deny = policy(path("*", Action.DENY, sid=ADMINISTRATORS, id="d"), path("*"))
    assert evaluate(allow, File(path="C:\\a.exe"), token).verdict == N
    decision = evaluate(deny, File(path="C:\\a.exe"), token)
    assert (decision.verdict, decision.rule_id, decision.confidence) == (D, "d", MEDIUM)


def test_app_containers_run_where_no_rule_denies() -> None:
    container = Token(sids=STANDARD_USER.sids | {"S-1-15-2-1"})
    rules = policy(path("%WINDIR%\\*"), path("D:\\*", Action.DENY, id="d"))
    decision = evaluate(rules, File(path="C:\\a.exe"), container)
    assert (decision.verdict, decision.rule_id, decision.confidence) == (A, None, MEDIUM)
    assert evaluate(rules, File(path="D:\\a.exe"), container).verdict == D
    scripts = policy(path("%WINDIR%\\*"), type="Script")
    assert evaluate(scripts, File(path="C:\\a.ps1"), container).verdict == N


def test_the_reason_speaks_of_powershell() -> None:
    reason = evaluate(policy(path("%WINDIR%\\*"), type="Script"), File(path="C:\\a.ps1"), STANDARD_USER).reason
    assert "Constrained Language Mode" in reason


# Modes and collections


@pytest.mark.parametrize(
    ("mode", "effect", "event", "confidence"),
    [
        (Mode.ENABLED, Effect.BLOCKED, 8004, HIGH),
        (Mode.AUDIT_ONLY, Effect.WOULD_BE_BLOCKED, 8003, HIGH),
        (Mode.NOT_CONFIGURED, Effect.BLOCKED, 8004, HIGH),
        (None, Effect.BLOCKED, 8004, MEDIUM),
    ],
)
def test_what_becomes_of_a_denial(mode: Mode | None, effect: Effect, event: int, confidence: Confidence) -> None:
    decision = evaluate(policy(path("%WINDIR%\\*"), mode=mode), File(path="C:\\a.exe"), STANDARD_USER)
    assert (decision.verdict, decision.effect, decision.event_id) == (N, effect, event)
    assert decision.confidence == confidence


@pytest.mark.parametrize(
    ("type", "file", "events"),
    [
        ("Dll", "C:\\a.pyd", (8002, 8003, 8004)),
        ("Script", "C:\\a.ps1", (8005, 8006, 8007)),
        ("Msi", "C:\\a.msi", (8005, 8006, 8007)),
        ("Appx", "Vendor.App_1.0.0.0_x64__abc", (8020, 8021, 8022)),
        ("Appx", "Vendor.App_1.0.0.0_x64__abc.appx", (8023, 8024, 8025)),
    ],
)
def test_events(type: str, file: str, events: tuple[int, int, int]) -> None:
    app = File(path=file, publisher="CN=Vendor", product="Vendor.App", binary="APPX", version=(1, 0, 0, 0))
    modes = (Mode.ENABLED, Mode.AUDIT_ONLY, Mode.ENABLED)
    rules = (signed("CN=Vendor"), signed("CN=Other"), signed("CN=Other"))
    found = [
        evaluate(policy(rule, type=type, mode=mode), app, STANDARD_USER, collection=type).event_id
        for rule, mode in zip(rules, modes, strict=True)
    ]
    assert tuple(found) == events


@pytest.mark.parametrize("mode", [None, *Mode])
def test_a_collection_without_rules_controls_nothing(mode: Mode | None) -> None:
    decision = evaluate(policy(mode=mode), File(path="C:\\a.exe"), STANDARD_USER)
    assert (decision.verdict, decision.effect, decision.event_id) == (Verdict.ALLOWED_BY_DEFAULT, Effect.RUNS, None)


def test_exe_rules_without_appx_rules_block_packaged_apps() -> None:
    app = File(path="Vendor.App", publisher="CN=Vendor")
    decision = evaluate(policy(path("*")), app, STANDARD_USER, collection="Appx")
    assert (decision.verdict, decision.effect, decision.event_id) == (N, Effect.BLOCKED, 8027)
    assert decision.confidence == HIGH
    unsaid = evaluate(policy(path("*"), mode=Mode.NOT_CONFIGURED), app, STANDARD_USER, collection="Appx")
    assert (unsaid.verdict, unsaid.effect, unsaid.event_id) == (N, Effect.BLOCKED, 8027)
    audited = evaluate(policy(path("*"), mode=Mode.AUDIT_ONLY), app, STANDARD_USER, collection="Appx")
    assert (audited.verdict, audited.effect, audited.confidence) == (Verdict.ALLOWED_BY_DEFAULT, Effect.RUNS, LOW)
    assert evaluate(Policy(), app, STANDARD_USER, collection="Appx").verdict == Verdict.ALLOWED_BY_DEFAULT


def extended(mode: str) -> Policy:
    services = Element(name="Services", attributes=(("EnforcementMode", mode),))
    threshold = Element(name="ThresholdExtensions", children=(services,))
    element = Element(name="RuleCollectionExtensions", children=(threshold, Element(name="RedstoneExtensions")))
    collection = Collection(type="Exe", mode=Mode.ENABLED, rules=(path("%WINDIR%\\*"),), extensions=element)
    return Policy(collections=(collection,))


def test_services_are_out_of_scope_unless_extended() -> None:
    system = Token(sids=frozenset({"S-1-5-18", EVERYONE, ADMINISTRATORS}))
    file = File(path="C:\\a.exe")
    for rules in (policy(path("%WINDIR%\\*")), extended("NotConfigured")):
        decision = evaluate(rules, file, system)
        assert (decision.verdict, decision.effect) == (Verdict.ALLOWED_BY_DEFAULT, Effect.RUNS)
    assert evaluate(extended("Enabled"), file, system).verdict == N
    assert evaluate(extended("Enabled"), file, STANDARD_USER).verdict == N
    assert evaluate(extended("ServicesOnly"), file, system).verdict == N
    assert evaluate(extended("ServicesOnly"), file, STANDARD_USER).confidence == LOW


@pytest.mark.parametrize(
    ("file", "collection"),
    [
        ("C:\\a.EXE", "Exe"), ("C:\\a.com", "Exe"), ("C:\\a.scr", "Exe"), ("C:\\a.dll", "Dll"), ("C:\\a.ocx", "Dll"),
        ("C:\\a.pyd", "Dll"), ("C:\\a.ps1", "Script"), ("C:\\a.psm1", "Script"), ("C:\\a.bat", "Script"),
        ("C:\\a.cmd", "Script"), ("C:\\a.vbs", "Script"), ("C:\\a.js", "Script"), ("C:\\a.msi", "Msi"),
        ("C:\\a.msp", "Msi"), ("C:\\a.mst", "Msi"), ("a.appx", "Appx"), ("a.msix", "Appx"), ("C:\\a.py", None),
        ("C:\\a.txt", None), ("C:\\a.txt:b.exe", "Exe"), ("C:\\x.exe\\noextension", None),
    ],
)  # fmt: skip
def test_collections_by_extension(file: str, collection: str | None) -> None:
    assert collection_of(file) == collection


def test_files_that_nobody_judges() -> None:
    rules = policy(path("%WINDIR%\\*"))
    python = evaluate(rules, File(path="C:\\a.py"), ADMIN)
    assert (python.verdict, python.collection, python.confidence) == (Verdict.ALLOWED_BY_DEFAULT, None, HIGH)
    assert evaluate(rules, File(path="C:\\a.txt"), ADMIN).confidence == MEDIUM
    assert evaluate(rules, File(path="C:\\a.txt"), ADMIN, collection=NOT_CONTROLLED).confidence == HIGH
    assert evaluate(rules, File(path="C:\\a.txt"), ADMIN, collection="Exe").verdict == N
    with pytest.raises(ValueError, match="no collection 'EXE'"):
        evaluate(rules, File(path="C:\\a.txt"), ADMIN, collection="EXE")


# Publishers and hashes


UV = {"publisher": VENDOR, "product": "UV", "binary": "UV.EXE", "version": (0, 9, 7, 0)}


@pytest.mark.parametrize(
    ("rule", "file", "verdict", "confidence"),
    [
        (signed(), UV, A, HIGH),
        (signed(VENDOR.lower()), UV, A, HIGH),
        (signed("*"), UV, A, HIGH),
        (signed("*"), {}, N, HIGH),
        (signed("O=OTHER"), UV, N, HIGH),
        (signed(product="UV"), UV, A, HIGH),
        (signed(product="RUFF"), UV, N, HIGH),
        (signed(product="UV", binary="uv.exe"), UV, A, HIGH),
        (signed(product="UV", binary="UVX.EXE"), UV, N, HIGH),
        (signed(low=(0, 9, 7, 0)), UV, A, HIGH),
        (signed(low=(0, 9, 10, 0)), UV, N, HIGH),
        (signed(high=(0, 9, 7, 0)), UV, A, HIGH),
        (signed(high=(0, 9, 6, 65535)), UV, N, HIGH),
        (signed(low=(0, 9, 7, 0), high=(0, 9, 7, 0)), UV, A, HIGH),
        (signed(low=(0, 0, 0, 0)), {"publisher": VENDOR}, A, MEDIUM),
        (signed(), {"publisher": VENDOR, "product": "", "binary": ""}, A, MEDIUM),
        (signed(product="UV"), {"publisher": VENDOR, "product": "", "binary": ""}, N, HIGH),
        (signed(product="MICROSOFT (R)"), {**UV, "product": "MICROSOFT®"}, N, HIGH),
        (signed("O=VENDOR*"), UV, N, LOW),
        (signed("O=OTHER*"), UV, N, HIGH),
        (signed(product="U*"), UV, N, LOW),
        (signed(product="?V"), UV, N, LOW),
        (signed(binary="?"), UV, A, MEDIUM),
        (signed(binary="UV*"), UV, A, LOW),
        (signed(binary="*.DLL"), UV, N, HIGH),
    ],
)
def test_publishers(rule: Rule, file: dict[str, object], verdict: Verdict, confidence: Confidence) -> None:
    decision = evaluate(policy(rule), File(path="C:\\x.exe", **file), STANDARD_USER)
    assert (decision.verdict, decision.confidence) == (verdict, confidence)


def test_a_renamed_copy_is_still_denied() -> None:
    rules = policy(path("*"), signed(binary="MSHTA.EXE", action=Action.DENY))
    file = File(path="C:\\x\\harmless.exe", publisher=VENDOR, product="W", binary="MSHTA.EXE")
    assert evaluate(rules, file, STANDARD_USER).verdict == D


@pytest.mark.parametrize(
    ("type", "rule", "file", "verdict", "confidence"),
    [
        ("Exe", hashed(), {"authenticode_sha256": f"0x{HASH.lower()}"}, A, HIGH),
        ("Exe", hashed(), {"authenticode_sha256": HASH}, A, HIGH),
        ("Exe", hashed(), {"flat_sha256": HASH}, N, HIGH),
        ("Exe", hashed(), {"flat_sha256": HASH, "authenticode_sha256": OTHER_HASH}, N, HIGH),
        ("Dll", hashed(), {"flat_sha256": HASH, "authenticode_sha256": OTHER_HASH}, N, HIGH),
        ("Exe", hashed(), {}, N, HIGH),
        ("Script", hashed(), {"flat_sha256": HASH, "authenticode_sha256": OTHER_HASH}, A, HIGH),
        ("Script", hashed(OTHER_HASH), {"flat_sha256": HASH, "authenticode_sha256": OTHER_HASH}, N, HIGH),
        ("Script", hashed(), {"authenticode_sha256": HASH}, A, MEDIUM),
        ("Msi", hashed(), {"flat_sha256": HASH, "authenticode_sha256": OTHER_HASH}, A, MEDIUM),
        ("Exe", hashed(), {"authenticode_sha256": HASH, "size_bytes": 0}, N, HIGH),
        ("Script", hashed("E3B0C44298FC1C149AFBF4C8996FB92427AE41E4649B934CA495991B7852B855"),
         {"flat_sha256": "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"}, N, HIGH),
        ("Exe", hashed(type="SHA256Flat"), {"flat_sha256": HASH, "authenticode_sha256": OTHER_HASH}, A, LOW),
        ("Exe", hashed("AB" * 20, type="SHA1"), {"sha1": "ab" * 20}, A, LOW),
        ("Exe", hashed("AB" * 20, type="SHA1"), {"sha1": "cd" * 20}, N, HIGH),
    ],
)  # fmt: skip
def test_hashes(type: str, rule: Rule, file: dict[str, object], verdict: Verdict, confidence: Confidence) -> None:
    subject = File(path="C:\\x.bin", **file)
    decision = evaluate(policy(rule, type=type), subject, STANDARD_USER, collection=type)
    assert (decision.verdict, decision.confidence) == (verdict, confidence), decision.doubts


def test_the_reason_says_when_identity_is_unknown() -> None:
    reason = evaluate(policy(hashed()), File(path="C:\\x.exe"), STANDARD_USER).reason
    assert "neither signer nor hash" in reason
    assert reason.count(". ") == 0


def test_hostile_patterns_take_no_time() -> None:
    rules = policy(path("*a" * 500 + "b"), path("?*" * 500 + "b", id="b"), path("<a" * 5000, id="c"))
    started = time.process_time()
    compiled = compile_policy(rules)
    assert compiled.decide(File(path="C:\\" + "a" * 3000 + ".exe"), STANDARD_USER).verdict == N
    assert time.process_time() - started < 1
