"""The upgrade check: what a release closes, under a policy, over a fleet, and among the rules that were made."""

from __future__ import annotations

import pytest
from sqlalchemy import Engine, event, update

from agent.catalogue import load
from agent.contract.facts import CollectionInForce, EnvironmentSet, PolicySet, UvSet
from app.applocker.evaluate import compile_policy
from app.applocker.model import STANDARD_USER, Token
from app.applocker.read import parse_policy
from app.db.base import now
from app.db.session import session_scope
from app.errors import InvalidError
from app.fleet.facts import version_mark
from app.fleet.make import make_fleet
from app.fleet.tables import KIND_NUMBERS, FactSet, Subject
from app.policies.export import plan_export
from app.policies.record_export import record_export
from app.preflight.compare import Break, files_of_release, find_breaks
from app.preflight.fleet import check_upgrade, default_versions
from tests.app.policies.conftest import Fleet

CATALOGUE = load()
SID = "S-1-5-21-1004336348-1177238915-682003330-1234"
CACHE = r"%OSDRIVE%\Users\*\AppData\Local\uv\cache"


def policy(*conditions: str) -> str:
    rules = ""
    for number, condition in enumerate(conditions):
        kind = next(
            word for word in ("FileHashRule", "FilePublisherRule", "FilePathRule") if word[4:8] in condition[:20]
        )
        rules += (
            f'<{kind} Id="00000000-0000-4000-8000-{number:012}" Name="rule" Description="" UserOrGroupSid="S-1-1-0" '
            f'Action="Allow"><Conditions>{condition}</Conditions></{kind}>'
        )
    collection = f'<RuleCollection Type="Exe" EnforcementMode="Enabled">{rules}</RuleCollection>'
    return f'<AppLockerPolicy Version="1">{collection}</AppLockerPolicy>'


def path(text: str) -> str:
    return f'<FilePathCondition Path="{text}"/>'


def breaks(before: str, after: str, xml: str) -> dict[str, Break]:
    found = find_breaks(
        files_of_release(CATALOGUE, before),
        files_of_release(CATALOGUE, after),
        compile_policy(parse_policy(xml)),
        Token(sids=STANDARD_USER.sids),
        CATALOGUE.workflows,
    )
    return {one.pattern: one for one in found}


def test_a_rule_with_the_folders_old_number_breaks_when_it_changes() -> None:
    numbered = policy(path(CACHE + r"\sdists-v9\*"))
    found = breaks("0.12.24", "0.13.0", numbered)
    assert found["cache-sdist-source-tree"].kind == "moved"
    assert r"\sdists-v10" in found["cache-sdist-source-tree"].path
    assert breaks("0.12.0", "0.12.24", numbered) == {}
    assert "cache-sdist-source-tree" not in breaks("0.12.24", "0.13.0", policy(path(CACHE + r"\sdists-v*\*")))


def test_a_whole_folder_breaks_nothing() -> None:
    assert breaks("0.9.13", "0.13.8", policy(path("*"))) == {}


def test_a_hash_of_uv_holds_for_its_build_alone() -> None:
    digest = "AB" * 32
    hashed = policy(
        f'<FileHashCondition><FileHash Type="SHA256" Data="0x{digest}" SourceFileName="uv.exe" SourceFileLength="1"/>'
        "</FileHashCondition>"
    )
    assert breaks("0.13.7", "0.13.8", hashed)["uv-exe-standalone"].kind == "hash"
    other = hashed.replace("uv.exe", "tool.exe")
    assert "uv-exe-standalone" not in breaks("0.13.7", "0.13.8", other)


def test_a_publisher_of_uv_begins_and_ends_with_its_signature() -> None:
    publisher = CATALOGUE.signer("openai").publisher.replace('"', "&quot;")
    signed = policy(
        f'<FilePublisherCondition PublisherName="{publisher}" ProductName="*" BinaryName="*">'
        '<BinaryVersionRange LowSection="*" HighSection="*"/></FilePublisherCondition>'
    )
    assert "uv-exe-standalone" not in breaks("0.12.0", "0.13.8", signed)
    # A downgrade to a release that is not signed closes what the signature opened.
    assert breaks("0.13.8", "0.12.11", signed)["uv-exe-standalone"].kind == "closed"


def test_a_new_place_breaks_only_what_worked() -> None:
    # `uv format` did not exist before: its place is new, and nothing that worked breaks.
    builds = policy(path(CACHE + r"\builds-v0\*"))
    assert breaks("0.8.12", "0.8.13", builds)["cache-binaries-tool"].kind == "later"
    assert "cache-binaries-tool" not in breaks("0.8.12", "0.8.13", policy(path(CACHE + r"\*")))
    # Self-update worked with the copy of uv alone; since 0.11.8 its installer has another name.
    copies = policy(path(r"%OSDRIVE%\Users\*\Temp\.uv.*"))
    scripts = (
        '<RuleCollection Type="Script" EnforcementMode="Enabled">' + copies.split('Enabled">')[1].split("</RuleC")[0]
    )
    both = copies.replace(
        "</AppLockerPolicy>", scripts.replace("8000-0", "8000-1") + "</RuleCollection></AppLockerPolicy>"
    )
    assert breaks("0.11.7", "0.11.8", both)["self-update-installer-ps1"].kind == "new"


def test_a_fleet_by_distinct_policies(database: Engine) -> None:
    make_fleet(database, 300, seed=5)
    numbered = plan_export(["cache-builds-venv-python"], SID, collections=("Exe",))
    with session_scope(database) as session:
        record_export(session, numbered)
    seen: list[str] = []
    event.listen(database, "before_cursor_execute", lambda *args: seen.append(args[2]))
    with session_scope(database, writes=False) as session:
        older, newest = default_versions(session)
        assert (older, newest) == ("0.12.4", CATALOGUE.newest_uv)
        seen.clear()
        found = check_upgrade(session, "0.9.13", newest)
        assert len([one for one in seen if one.startswith("SELECT")]) <= 14
        assert found.users > 50
        assert 1 <= found.policies <= 3
        assert found.broken <= found.users == sum(group.users for group in found.groups)
        assert found.exports_checked == 1
        assert found.rules == ()
        assert {one.folder for one in found.changes.new_buckets} >= {"sdists-v10", "git-v1"}
        assert check_upgrade(session, "0.1.1", newest).users == 0
        for before, after, field in (("x", newest, "from"), (newest, "1.x", "to")):
            with pytest.raises(InvalidError) as refused:
                check_upgrade(session, before, after)
            assert refused.value.field == field


def test_users_are_judged_where_their_folders_really_are(database: Engine) -> None:
    """A rule for the old number of a folder on D: breaks those whose profiles lie there, and nobody else."""
    cache = r"Users\*\AppData\Local\uv\cache"
    rules = (
        '<FilePathRule Id="00000000-0000-4000-8000-000000000001" Name="rule" Description="" UserOrGroupSid="S-1-1-0" '
        rf'Action="Allow"><Conditions><FilePathCondition Path="D:\{cache}\sdists-v9\*"/></Conditions></FilePathRule>'
    )
    in_force = PolicySet(collections={"Exe": CollectionInForce(mode="Enabled", rules=(rules,))})
    with session_scope(database) as session:
        fleet = Fleet(session)
        for drive, users in (("D:", 3), ("%OSDRIVE%", 2), ("\\\\*\\*", 1)):
            for _ in range(users):
                fleet.add(in_force, environment=EnvironmentSet(roots={"cache": f"{drive}\\{cache}"}))
        row = FactSet(
            kind=KIND_NUMBERS["uv"],
            digest=b"uv",
            body=UvSet(found=()).body(),
            flags=0,
            facts=[version_mark("0.12.24")],
            created_at=now(),
        )
        session.add(row)
        session.flush()
        session.execute(update(Subject).values(uv_id=row.id))
    with session_scope(database, writes=False) as session:
        found = check_upgrade(session, "0.12.24", "0.13.0")
    assert (found.users, found.broken) == (6, 3)
    moved = [one for one in found.patterns if one.kind == "moved"]
    assert {one.users for one in moved} == {3}
    assert all(one.path.startswith("D:\\Users\\x\\AppData\\Local\\uv\\cache\\sdists-v10") for one in moved)


def test_an_export_for_old_folders_is_named(database: Engine) -> None:
    # A downgrade: the rule for the folder of Ruff and ty stays, but what the export says of uv.exe needs its signature.
    export = plan_export(["uv-exe-standalone=publisher"], SID, collections=("Exe",))
    with session_scope(database) as session:
        kept = record_export(session, export)
    with session_scope(database, writes=False) as session:
        found = check_upgrade(session, "0.13.8", "0.12.11")
    assert [(one.kind, one.id, [broken.pattern for broken in one.breaks]) for one in found.rules] == [
        ("export", kept.id, ["uv-exe-standalone"])
    ]
