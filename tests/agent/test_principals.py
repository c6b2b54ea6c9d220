"""Which SIDs of a token may leave the workstation."""

from __future__ import annotations

from agent.principals import ADMINISTRATORS, Principal, reportable_token

MACHINE = "S-1-5-21-10-20-30"
DOMAIN = "S-1-5-21-40-50-60"


def test_only_well_known_and_named_sids_are_told() -> None:
    principal = Principal(
        sid=f"{DOMAIN}-1105",
        groups=(
            "S-1-1-0",
            "S-1-5-11",
            "S-1-5-32-545",
            "S-1-5-5-0-123456",  # the logon session
            f"{DOMAIN}-513",  # of a domain, and named by no rule
            f"{DOMAIN}-2001",
            f"{MACHINE}-1002",
            f"{DOMAIN}-1105",
        ),
        deny_only=(ADMINISTRATORS, f"{DOMAIN}-3001"),
        machine_sid=MACHINE,
    )
    named = {f"{DOMAIN}-2001", f"{MACHINE}-1002", f"{DOMAIN}-1105"}

    told = reportable_token(principal, named)

    assert set(told.sids) == {"S-1-1-0", "S-1-5-11", "S-1-5-32-545", f"{DOMAIN}-2001"}
    assert told.deny_only == (ADMINISTRATORS,)
    assert not told.administrator


def test_a_limited_administrator_counts_by_the_linked_token() -> None:
    limited = Principal(sid="S-1-5-21-1-1-1-1001", deny_only=(ADMINISTRATORS,), linked_groups=(ADMINISTRATORS,))
    restricted = Principal(sid="S-1-5-21-1-1-1-1001", deny_only=(ADMINISTRATORS,))
    assert limited.is_administrator
    assert not restricted.is_administrator
    assert Principal(sid="S-1-5-21-1-1-1-1001", groups=(ADMINISTRATORS,)).is_administrator
