"""PostgreSQL fails under load: killed, away, or lost while it commits. What was acknowledged is there, and once."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Iterator
from pathlib import Path

import pytest

from app.db.engine import open_engine
from app.ingest.generator import Fleet
from app.settings import Settings
from tests.faults.cluster import Cluster, made_cluster
from tests.faults.cutting_proxy import CuttingProxy
from tests.faults.served import (
    AWAY_S,
    KILLS,
    OFTEN,
    STATIONS,
    Served,
    assert_ledger_is_kept,
    chosen_seed,
    prepared,
    report_while,
    under_load,
)

pytestmark = [pytest.mark.slow, pytest.mark.postgresql]


@pytest.fixture
def cluster() -> Iterator[Cluster]:
    with made_cluster() as made:
        made.start()
        yield made


def test_killed_or_away_it_loses_nothing(cluster: Cluster, tmp_path: Path) -> None:
    settings = Settings(data_dir=tmp_path, database_url=cluster.url)
    secret = prepared(settings)
    server = Served(settings)
    server.start()
    chance = random.Random(chosen_seed())

    async def harm() -> None:
        for _ in range(max(KILLS // 5, 2)):
            await asyncio.sleep(chance.uniform(0.3, 0.8))
            await asyncio.to_thread(cluster.kill_backend, chance)
            await asyncio.sleep(chance.uniform(0.3, 0.8))
            await asyncio.to_thread(cluster.kill_postmaster)
            await asyncio.to_thread(cluster.start)
        await asyncio.to_thread(cluster.stop)
        await asyncio.sleep(AWAY_S)
        await asyncio.to_thread(cluster.start)
        await asyncio.sleep(1)

    try:
        fleet = asyncio.run(under_load(server, secret, chance, harm))
    finally:
        server.kill()
    print(f"{fleet.tally.acknowledged} reports acknowledged, {fleet.tally.turned_away} times told to come back")
    assert fleet.tally.turned_away > 0, "nobody was told to come back: nothing was tested"
    assert fleet.tally.lost == 0, "the server itself must stay"
    engine = open_engine(settings)
    assert_ledger_is_kept(engine, fleet)
    engine.dispose()


def test_a_commit_whose_answer_is_lost_counts_once(cluster: Cluster, tmp_path: Path) -> None:
    direct = Settings(data_dir=tmp_path, database_url=cluster.url)
    secret = prepared(direct)
    chance = random.Random(chosen_seed())
    proxy = CuttingProxy(cluster.port, chance, share=0.1)

    async def run() -> Fleet:
        port = await proxy.start()
        url = cluster.url.replace(str(cluster.port), str(port))
        server = Served(Settings(data_dir=tmp_path, database_url=url))
        await asyncio.to_thread(server.start)

        async def harm() -> None:
            proxy.is_cutting = True
            for _ in range(600):
                await asyncio.sleep(0.1)
                if min(proxy.cuts["before"], proxy.cuts["after"]) >= max(KILLS // 2, 3):
                    break
            proxy.is_cutting = False

        try:
            return await under_load(server, secret, chance, harm)
        finally:
            await asyncio.to_thread(server.kill)
            await proxy.stop()

    fleet = asyncio.run(run())
    print(f"{fleet.tally.acknowledged} reports acknowledged, COMMITs cut off: {dict(proxy.cuts)}")
    assert min(proxy.cuts["before"], proxy.cuts["after"]) >= 3
    assert fleet.tally.lost == 0, "the server itself must stay"
    engine = open_engine(direct)
    assert_ledger_is_kept(engine, fleet)
    engine.dispose()


def test_a_database_that_says_nothing_holds_nobody(cluster: Cluster, tmp_path: Path) -> None:
    """Packets are lost: no connection ends, and no answer comes. All are told to come back before they give up."""
    direct = Settings(data_dir=tmp_path, database_url=cluster.url)
    secret = prepared(direct)
    proxy = CuttingProxy(cluster.port, random.Random(1), share=0.0)
    answer_s = 2.0

    async def run() -> tuple[Fleet, list[float]]:
        port = await proxy.start()
        url = cluster.url.replace(str(cluster.port), str(port))
        server = Served(Settings(data_dir=tmp_path, database_url=url), WAYLEAVE_ANSWER_S=str(answer_s))
        await asyncio.to_thread(server.start)
        waited_s: list[float] = []

        async def harm() -> None:
            await asyncio.sleep(1)
            proxy.is_swallowing = True
            for _ in range(3):
                began_s = asyncio.get_running_loop().time()
                answer = await fleet._ask(silent[0].request(b"never-recorded-%d" % len(waited_s)))
                assert answer.status == 503
                waited_s.append(asyncio.get_running_loop().time() - began_s)
            proxy.is_swallowing = False
            await asyncio.sleep(1)

        fleet = Fleet(server.url, most_wait_s=0.5, tells=OFTEN)
        try:
            await fleet.enrol(secret, STATIONS + 1, connections=8)
            # This one speaks only while nobody answers.
            silent = [fleet.stations.pop()]
            await report_while(fleet, random.Random(2), harm)
            fleet.close()
            return fleet, waited_s
        finally:
            await asyncio.to_thread(server.kill)
            await proxy.stop()

    fleet, waited_s = asyncio.run(run())
    print(f"{fleet.tally.acknowledged} reports acknowledged, {proxy.swallowed} messages swallowed, waited {waited_s}")
    assert proxy.swallowed > 0
    # Long before an agent gives up; a busy machine is late itself.
    assert max(waited_s) < answer_s + 2
    assert fleet.tally.turned_away > 0, "nobody was told to come back: nothing was tested"
    assert fleet.tally.lost == 0, "the server itself must stay"
    engine = open_engine(direct)
    assert_ledger_is_kept(engine, fleet)
    engine.dispose()
