"""Groups and tags: everybody sees them, administrators change them by lists of names."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from sqlalchemy import Engine, select
from starlette.testclient import TestClient

from app.db.session import session_scope
from app.fleet.make import make_fleet
from app.fleet.tables import Host, HostGroup
from app.ingest.enrolment import create_enrolment_secret


@pytest.fixture
def administrator(engine: Engine, signed_in: Callable[[str], TestClient]) -> TestClient:
    make_fleet(engine, 40, seed=2)
    return signed_in("administrator")


def names_of(engine: Engine, count: int) -> list[str]:
    with session_scope(engine, writes=False) as session:
        return list(session.scalars(select(Host.name).order_by(Host.id).limit(count)))


def group_id(engine: Engine, name: str) -> int:
    with session_scope(engine, writes=False) as session:
        return session.scalars(select(HostGroup.id).where(HostGroup.name == name)).one()


def test_hosts_are_moved_by_their_names(administrator: TestClient, engine: Engine) -> None:
    assert administrator.post("/groups", data={"name": "Pilot"}).status_code == 303
    pilot = group_id(engine, "Pilot")
    data = {"what": "move", "group": str(pilot), "names": "\r\n".join([*names_of(engine, 3), "GONE-1"])}
    page = administrator.post("/groups/hosts", data=data)
    assert page.status_code == 200
    assert "3 hosts moved. There is no host of 1 name: gone-1" in page.text
    assert "3 hosts" in administrator.get(f"/hosts?group={pilot}").text


def test_hosts_are_tagged_and_untagged(administrator: TestClient, engine: Engine) -> None:
    names = ", ".join(names_of(engine, 4))
    assert (
        "4 hosts got the tag."
        in administrator.post("/groups/hosts", data={"what": "tag", "tag": "Ring 1", "names": names}).text
    )
    assert '<a class="wrap" href="/hosts?tag=ring%201">ring 1</a>' in administrator.get("/groups").text
    assert (
        "4 hosts lost the tag."
        in administrator.post("/groups/hosts", data={"what": "untag", "tag": "ring 1", "names": names}).text
    )


@pytest.mark.parametrize(
    ("changed", "problem"),
    [
        ({"names": " "}, "Name at least one host."),
        ({"what": "dance"}, "Choose what to do."),
        ({"what": "move", "group": ""}, "Choose a group."),
        ({"what": "tag", "tag": "<b>"}, "A tag is 1 to 60"),
    ],
)
def test_bad_input_says_what_and_keeps_the_form(
    administrator: TestClient, engine: Engine, changed: dict[str, str], problem: str
) -> None:
    data = {"what": "tag", "tag": "x", "names": "FIN-00001"} | changed
    answer = administrator.post("/groups/hosts", data=data)
    assert answer.status_code == 422
    assert problem in answer.text
    assert data["names"].strip() in answer.text


def test_groups_are_renamed_and_deleted(administrator: TestClient, engine: Engine) -> None:
    administrator.post("/groups", data={"name": "Lab"})
    lab = group_id(engine, "Lab")
    assert administrator.post(f"/groups/{lab}/rename", data={"name": "Laboratory"}).status_code == 303
    assert administrator.post(f"/groups/{lab}/rename", data={"name": " "}).status_code == 422
    assert administrator.post(f"/groups/{lab}/rename", data={"name": "Finance"}).status_code == 409
    assert administrator.post(f"/groups/{group_id(engine, 'Finance')}/delete").status_code == 409
    with session_scope(engine) as session:
        create_enrolment_secret(session, uses=None, group="Laboratory")
    assert administrator.post(f"/groups/{lab}/delete").status_code == 409, "a secret still leads there"
    administrator.post("/groups", data={"name": "Empty"})
    assert administrator.post(f"/groups/{group_id(engine, 'Empty')}/delete").status_code == 303
    assert "Empty" not in administrator.get("/groups").text


def test_names_stay_words(administrator: TestClient) -> None:
    administrator.post("/groups", data={"name": "<script>alert(1)</script>"})
    assert "<script>alert" not in administrator.get("/groups").text


@pytest.mark.parametrize("role", ["viewer", "analyst", "approver"])
def test_others_only_look(signed_in: Callable[[str], TestClient], role: str) -> None:
    client = signed_in(role)
    page = client.get("/groups")
    assert page.status_code == 200
    assert "<textarea" not in page.text
    for path in ("/groups", "/groups/hosts", "/groups/1/rename", "/groups/1/delete", "/groups/tags/drop"):
        assert client.post(path).status_code == 403
