"""Ten thousand groups and policies, more tags than a page holds: told in full, shown in parts, on both databases."""

from __future__ import annotations

import hashlib
import random
import re
from html import unescape

import pytest
from fastapi import FastAPI
from sqlalchemy import delete, insert, select
from starlette.testclient import TestClient

from agent.contract.facts import CollectionInForce, PolicySet
from app.accounts.create import create_account
from app.db.base import now
from app.db.session import session_scope
from app.fleet.make import make_fleet
from app.fleet.standing import Standing
from app.fleet.tables import KIND_NUMBERS, NO_SET, FactSet, Host, HostGroup, HostTag, Tally

MANY = 10_000
RULE = (
    '<FilePathRule Id="{0:08x}-6e17-4653-8f75-050b80acca20" Name="Folder {0}" Description="" UserOrGroupSid="S-1-1-0" '
    'Action="Allow"><Conditions><FilePathCondition Path="C:\\{0}\\*" /></Conditions></FilePathRule>'
)
MOST_LETTERS = 400_000


def policy_of(rules: int, number: int = 0) -> str:
    """The body of a policy with so many rules, as an agent reports it."""
    texts = tuple(RULE.format(number + place) for place in range(rules))
    return PolicySet(collections={"Exe": CollectionInForce(mode="Enabled", rules=texts)}).body()


def digest_of(number: int) -> bytes:
    return hashlib.sha256(f"policy {number}".encode()).digest()


@pytest.fixture
def administrator(server: FastAPI) -> TestClient:
    """Signed in where one host has reported, beside ten thousand groups, policies of a user each, and 1,200 tags."""
    make_fleet(server.state.engine, 4, seed=1)
    at = now()
    with session_scope(server.state.engine) as session:
        create_account(session, "ada@example.com", "correct horse battery", "administrator")
        host = session.scalars(select(Host.id).order_by(Host.id.desc())).first()
        session.execute(
            insert(HostGroup),
            [{"id": 1000 + n, "name": f"Group {n:05}", "source": "tag", "created_at": at} for n in range(MANY)],
        )
        session.execute(
            insert(FactSet),
            [
                {
                    "id": 100_000 + n,
                    "kind": KIND_NUMBERS["policy"],
                    "digest": digest_of(n),
                    "body": policy_of(700 if n == 0 else 1, n),
                    "flags": 0,
                    "facts": None,
                    "created_at": at,
                    "retired_at": None,
                }
                for n in range(MANY)
            ],
        )
        counted = Standing.COUNTED.value
        session.execute(
            insert(Tally),
            [
                {"group_id": 1000 + n, "standing": counted, "set_id": set_id, "subjects": 1}
                for n in range(MANY)
                for set_id in (NO_SET, 100_000 + n)
            ],
        )
        session.execute(insert(HostTag), [{"tag": f"tag {n:04}", "host_id": host} for n in range(1200)])
    client = TestClient(server, base_url="http://wayleave.example", follow_redirects=False)
    assert client.post("/login", data={"email": "ada@example.com", "password": "correct horse battery"}).is_redirect
    return client


def get(client: TestClient, path: str) -> str:
    answer = client.get(path)
    assert answer.status_code == 200, answer.text
    assert len(answer.text) < MOST_LETTERS, f"{path} has {len(answer.text):,} letters"
    return unescape(answer.text)


def words(page: str) -> str:
    return " ".join(re.sub(r"<[^>]+>", " ", page).split())


def test_groups_tags_and_policies_in_parts(administrator: TestClient, server: FastAPI) -> None:
    page = get(administrator, "/groups")
    total = MANY + 5
    assert re.search(rf"Workstations are in {total:,} groups and have 1,200 tags", words(page)), words(page)[:2000]
    assert f"1 to 100 of {total:,} groups" in words(page)
    assert "1 to 100 of 1,200 tags" in words(page)
    assert page.count("<option") < 50
    assert "Group 00205" in get(administrator, "/groups?first=201")
    assert "tag 1199" in get(administrator, "/groups?first_tag=1101")
    found = get(administrator, "/groups?q=group+09999")
    assert "Group 09999" in found
    assert "Group 00001" not in found
    last = get(administrator, f"/groups?first={total // 100 * 100 + 1}")
    assert 'rel="next"' not in last.partition("</table>")[2].partition("Move or tag")[0].replace("first_tag", "")
    with session_scope(server.state.engine, writes=False) as session:
        name = session.scalars(select(Host.name).order_by(Host.id)).first()
    data = {"what": "move", "names": name, "group_name": "Group 09998"}
    assert "1 host moved" in administrator.post("/groups/hosts", data=data).text
    refused = administrator.post("/groups/hosts", data=data | {"group_name": "No such"})
    assert (refused.status_code, "There is no group of this name." in refused.text) == (422, True)
    assert get(administrator, "/hosts/1").count("<option") < 50
    agents = get(administrator, "/agents")
    assert agents.count("<option") <= 350
    stop = administrator.post("/agents/probing/stop", data={"group_name": "Group 00007", "reason": "trial"})
    assert stop.status_code == 303
    assert "Group 00007" in get(administrator, "/agents")

    page = get(administrator, "/policies")
    reported = re.search(r"([\d,]+) policies are in force for ([\d,]+) users", words(page))
    assert reported is not None
    assert int(reported[1].replace(",", "")) > MANY
    assert f"50 of {reported[1]} policies" in words(page)
    after = re.search(r'href="(/policies\?after=\d+)" rel="next"', page)
    assert after is not None
    first, second = (
        set(re.findall(r"/policies/(\d+)", page)),
        set(re.findall(r"/policies/(\d+)", get(administrator, after[1]))),
    )
    assert len(first) == len(second) == 50
    assert not first & second

    one = get(administrator, "/policies/100000")
    assert "1 to 300 of 700 rules" in words(one)
    assert "Folder 650" not in one
    assert "Folder 650" in get(administrator, "/policies/100000?rule=601")
    assert "1 to 60 of" in words(one)
    assert re.search(r"61 to \d+ of \d+ findings", words(get(administrator, "/policies/100000?finding=61")))
    named = digest_of(9_000).hex()[:10]
    compared = get(administrator, f"/policies/100000?named={named}")
    assert re.search(rf"\d+ differences against {named[:8]}", words(compared)), words(compared)[:1500]
    wrong = administrator.get("/policies/100000?named=ffffffffffffffff")
    assert (wrong.status_code, "No policy has a name that begins so" in wrong.text) == (422, True)
    api = administrator.get("/api/v1/policies", params={"rows": 3, "after": 100_500}).json()
    assert [line["id"] for line in api] == [100_501, 100_502, 100_503]


def test_hosts_are_filtered_by_a_group_that_is_typed(administrator: TestClient) -> None:
    page = get(administrator, "/hosts")
    assert 'name="group_name"' in page
    assert "Group 00007" not in page
    offered = administrator.get("/groups/names", params={"group_name": "gROUP 0012"}).text
    assert re.findall('value="([^"]*)"', offered) == [f"Group {n:05}" for n in range(120, 130)]
    assert administrator.get("/groups/names", params={"group_name": "group"}).text.count("<option") == 20
    assert administrator.get("/groups/names", params={"group_name": "%"}).text.count("<option") == 0
    assert administrator.get("/groups/names").text.count("<option") == 0
    found = get(administrator, "/hosts?group_name=group+00007&group=")
    assert "group Group 00007" in found
    assert 'value="Group 00007"' in found
    answer = administrator.get("/hosts?group_name=Group+00007", headers={"HX-Request": "true", "HX-Target": "rows"})
    assert answer.headers["HX-Push-Url"] == "/hosts?group=1007"
    wrong = administrator.get("/hosts?group_name=No+such")
    assert (wrong.status_code, "There is no group of the name “No such”." in wrong.text) == (422, True)


def test_three_hundred_groups_of_long_names_weigh_little(administrator: TestClient, server: FastAPI) -> None:
    """As a browser gets the page: compressed."""
    draw = random.Random(1)
    with session_scope(server.state.engine) as session:
        session.execute(delete(HostGroup).where(HostGroup.id >= 1300))
        for group in session.scalars(select(HostGroup).where(HostGroup.id >= 1000)):
            group.name = "".join(draw.choices("abcdefghijklmnopqrstuvwxyz ", k=118)).strip() + str(draw.randrange(10))
    for path in ("/hosts", "/hosts/1", "/agents"):
        with administrator.stream("GET", path) as answer:
            assert answer.headers["content-encoding"] in ("gzip", "br", "zstd")
            weight = sum(len(chunk) for chunk in answer.iter_raw())
        assert weight < 30_000, f"{path} weighs {weight:,} bytes"
