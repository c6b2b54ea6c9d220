"""Names as long as the server takes them, and many groups, on every page that shows them: nothing is cut off."""

from __future__ import annotations

from collections.abc import Callable
from types import ModuleType

import pytest
from playwright.sync_api import Page

from agent.contract.facts import CollectionInForce, PolicySet
from app.accounts.create import create_account
from app.audit.record import Actor
from app.db.session import session_scope
from app.fleet.groups import create_group
from app.policies.rule_sets import Group, add_to_rule_set, create_rule_set, set_terms

pytestmark = pytest.mark.browser

SIZES = ({"width": 1280, "height": 860}, {"width": 390, "height": 844})
WHO = Actor(kind="account", name="W" * 50 + "@example.com")
SID = "S-1-5-21-1004336348-1177238915-682003330-1234"
LONG_RULE = (
    '<FilePathRule Id="921cc481-6e17-4653-8f75-050b80acca20" Name="{name}" Description="" UserOrGroupSid="S-1-1-0" '
    'Action="Allow"><Conditions><FilePathCondition Path="%OSDRIVE%\\{folder}\\*"/></Conditions></FilePathRule>'
)
GROUPS = 300
PAGES = (
    "/",
    "/workflows",
    "/patterns",
    "/patterns/venv-python",
    "/hosts",
    "/hosts/1",
    "/hosts/1/forget",
    "/groups",
    "/versions",
    "/sightings?by=path",
    "/policies",
    "/policies/{policy}",
    "/rule-sets",
    "/rule-sets/1",
    "/rule-sets/1/plan",
    "/rule-sets/1/review",
    "/rule-sets/2",
    "/search?q=W",
    "/audit",
)


def fill(site: object, fleet: ModuleType) -> None:
    """One workstation, a group, a policy, two rule sets, an account: all with names without a place to break at."""
    machine = fleet.Machine(name="W" * 200, group="G" * 100, blocked=(*fleet.CACHE, *fleet.PYTHON), version="0.13.8")
    rule = LONG_RULE.format(name="R" * 200, folder="f" * 200)
    policy = PolicySet(collections={"Exe": CollectionInForce(mode="Enabled", rules=(rule,))})
    sets = [policy if one.kind == "policy" else one for one in machine.sets()]
    machine.sets = lambda: sets
    fleet.report_to(site.url, site.app, [machine])
    with session_scope(site.app.state.engine) as session:
        create_account(session, "w" * 60 + "@example.com", "correct horse battery", "viewer")
        for number in range(GROUPS):
            create_group(session, f"{number} " + "H" * 90, actor=WHO)
        made = add_to_rule_set(session, workflows=["sync-build", "uvx"], actor=WHO).rule_set_id
        set_terms(session, made, base_id=None, groups=[Group(sid=SID, name="D" * 100)], pilot=[], actor=WHO)
        create_rule_set(session, name="S" * 200, actor=WHO)


def test_long_names_stay_within_the_screen(
    empty_site: object, open_page: Callable[..., tuple[Page, object]], sign_in: Callable[..., None], fleet: ModuleType
) -> None:
    page, _ = open_page(empty_site)
    sign_in(page, empty_site)
    fill(empty_site, fleet)
    page.goto("/policies")
    policy = page.locator("a[href^='/policies/']").first.get_attribute("href") or ""
    too_wide = []
    for size in SIZES:
        page.set_viewport_size(size)
        for path in PAGES:
            answer = page.goto(path.format(policy=policy.rpartition("/")[2]))
            assert answer is not None
            assert answer.ok, path
            wider = page.evaluate("document.documentElement.scrollWidth - window.innerWidth")
            if wider > 0:
                too_wide.append(f"{path} at {size['width']}: {wider} pixels")
    assert too_wide == []
