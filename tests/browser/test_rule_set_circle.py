"""From a blocked pattern to a zip, by two people in a real browser; the engine judges that it does what was shown."""

from __future__ import annotations

import hashlib
import io
import re
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from playwright.sync_api import Page, expect

from agent.catalogue import Machine, canary_paths, load
from agent.contract.facts import CollectionInForce, PolicySet
from app.accounts.create import create_account
from app.applocker.evaluate import evaluate
from app.applocker.model import STANDARD_USER, File, Token, Verdict
from app.applocker.read import parse_policy
from app.db.session import session_scope
from app.policies.coverage import TYPICAL_ENVIRONMENT

PASSWORD = "correct horse battery"
SID = "S-1-5-21-1004336348-1177238915-682003330-1234"
RULE = '<FilePathRule Id="{id}" Name="{name}" Description="" UserOrGroupSid="S-1-1-0" Action="Allow"><Conditions><FilePathCondition Path="{path}"/></Conditions></FilePathRule>'  # noqa: E501 - XML as a policy has it, on one line
RULES = (
    RULE.format(id="a61c8b2c-a319-4cd0-9690-d2177cad7b51", name="Windows", path="%WINDIR%\\*"),
    RULE.format(id="921cc481-6e17-4653-8f75-050b80acca20", name="Programs", path="%PROGRAMFILES%\\*"),
)
BASE = f'<AppLockerPolicy Version="1"><RuleCollection Type="Exe" EnforcementMode="Enabled">{"".join(RULES)}</RuleCollection></AppLockerPolicy>'  # noqa: E501 - XML as a policy has it, on one line
BUILD = "cache-builds-venv-python"

pytestmark = pytest.mark.browser


def sign_in(page: Page, role: str) -> None:
    page.goto("/login")
    page.get_by_label("E-mail address").fill(f"{role}@example.com")
    page.get_by_label("Password").fill(PASSWORD)
    page.get_by_role("button", name="Sign in").click()
    expect(page.get_by_role("button", name="Sign out")).to_be_attached()


def machine(fleet: object, number: int) -> object:
    """A workstation under the base policy whose cache and projects are blocked."""
    made = fleet.Machine(name=f"PC-{number}", group="Research", blocked=(*fleet.CACHE, *fleet.PYTHON))
    policy = PolicySet(collections={"Exe": CollectionInForce(mode="Enabled", rules=RULES)})
    sets = [policy if one.kind == "policy" else one for one in made.sets()]
    made.sets = lambda: sets
    return made


@pytest.mark.parametrize("javascript", [True, False], ids=["with-javascript", "without-javascript"])
def test_from_a_blocked_pattern_to_a_zip_that_does_what_was_shown(
    empty_site: object, open_page: Callable[..., tuple[Page, object]], fleet: object, tmp_path: Path, javascript: bool
) -> None:
    site = empty_site
    with session_scope(site.app.state.engine) as session:
        for role in ("analyst", "approver"):
            create_account(session, f"{role}@example.com", PASSWORD, role)
    fleet.report_to(site.url, site.app, [machine(fleet, number) for number in range(3)])
    base = tmp_path / "base.xml"
    base.write_text(BASE, encoding="utf-8")

    page, _ = open_page(site, javascript=javascript)
    sign_in(page, "analyst")
    page.goto(f"/patterns/{BUILD}")
    page.get_by_role("link", name="Draft rules for this pattern").click()
    page.locator("#w-sync-build").check()
    page.get_by_role("button", name="Draft it").click()
    address = page.url
    assert re.search(r"/rule-sets/\d+$", address)
    page.get_by_label("Groups, by SID, one a line").fill(f"{SID} Developers")
    page.get_by_label("Project roots").fill("C:\\src")
    page.locator("#terms-title").locator("..").get_by_role("button", name="Save").click()
    page.locator("#base_file").set_input_files(str(base))
    page.get_by_role("button", name="Upload it as the base").click()

    page.goto(f"{address}/plan")
    expect(page.get_by_role("heading", level=1)).to_contain_text("plan")
    page.goto(f"{address}/plan?slider=0")
    page.get_by_role("button", name="Take this plan").click()
    expect(page.get_by_role("heading", level=1)).to_contain_text("Developers")

    page.goto(f"{address}/what-if")
    page.get_by_role("button", name="Judge it against the fleet").click()
    expect(page.get_by_role("heading", level=1)).to_contain_text("for up to 3 of 3 users")
    shown = {
        row.locator("th a").first.get_attribute("title"): int(row.locator("td.num").nth(0).inner_text().split()[0])
        for row in page.locator("section[aria-labelledby=asked-title] tbody tr").all()
    }
    assert shown[BUILD] == 3

    page.goto(f"{address}/review")
    expect(page.get_by_role("button", name=re.compile("Approve"))).to_have_count(0)
    page.get_by_role("button", name="Hand it in for review").click()
    page.goto(f"{address}/export")
    expect(page.get_by_role("heading", level=1)).to_contain_text("Nothing is approved yet")

    other, _ = open_page(site, javascript=javascript)
    sign_in(other, "approver")
    other.goto(f"{address}/review")
    other.get_by_label("Say something").fill("Reach is fine for Research.")
    other.get_by_role("button", name="Comment").click()
    other.get_by_role("button", name=re.compile("^Approve")).click()
    expect(other.get_by_role("heading", level=1)).to_contain_text("Approved by approver@example.com")

    page.goto(f"{address}/export")
    page.get_by_role("button", name=re.compile("^Export ")).click()
    with page.expect_download() as download:
        page.get_by_role("link", name="Everything as a zip").click()
    target = tmp_path / "export.zip"
    download.value.save_as(target)
    check_package(target.read_bytes(), shown)


def check_package(content: bytes, shown: dict[str, int]) -> None:
    """Checksums and signature hold; base and rules together open what the page said, for members alone."""
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        files = {name: archive.read(name) for name in archive.namelist()}
    sums = dict(reversed(line.split("  ", 1)) for line in files["SHA256SUMS"].decode().splitlines())
    assert all(sums[name] == hashlib.sha256(files[name]).hexdigest() for name in sums)
    manifest = files["manifest.json"]
    key = re.search(rb'"public_key_ed25519": "([0-9a-f]{64})"', manifest)
    assert key is not None
    Ed25519PublicKey.from_public_bytes(bytes.fromhex(key[1].decode())).verify(files["manifest.sig"], manifest)
    assert b"approver@example.com" in files["evidence.json"]
    assert b"approver@example.com" in files["approval.html"]

    before, after = parse_policy(BASE), parse_policy(files["whole-policy.xml"])
    assert {rule.id for _, rule in before.rules()} < {rule.id for _, rule in after.rules()}
    member, stranger = Token(sids=STANDARD_USER.sids | {SID}), STANDARD_USER
    machine = Machine(
        env=TYPICAL_ENVIRONMENT, project_roots=("C:\\src",), answers={"cache_dir": "%LOCALAPPDATA%\\uv\\cache"}
    )
    for name, users in shown.items():
        pattern = load().pattern(name)
        source = load().pattern(pattern.covered_by) if pattern.covered_by else pattern
        file = File(path=canary_paths(source, machine, "wlv000")[0])
        assert evaluate(before, file, member, collection="Exe").verdict is Verdict.DENIED_BY_DEFAULT
        opened = evaluate(after, file, member, collection="Exe").verdict is Verdict.ALLOWED
        assert opened == (users > 0), name
        assert evaluate(after, file, stranger, collection="Exe").verdict is Verdict.DENIED_BY_DEFAULT
    for path in ("C:\\Users\\anyone\\Downloads\\evil.exe", "C:\\Users\\anyone\\AppData\\Local\\uv\\cache\\evil.exe"):
        assert evaluate(after, File(path=path), member).verdict is Verdict.DENIED_BY_DEFAULT
