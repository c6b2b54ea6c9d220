"""kill -9 of the server under load: no acknowledged report is lost, none counted twice, every count is right.

WAYLEAVE_KILLS says how often (10 unless given), WAYLEAVE_SEED when; the seed is printed with a failure.
"""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from pathlib import Path

import pytest

from app.db.engine import open_engine
from app.settings import Settings
from tests.faults.cluster import made_cluster
from tests.faults.served import (
    KILLS,
    Served,
    assert_ledger_is_kept,
    chosen_seed,
    prepared,
    under_load,
)


@pytest.mark.slow
def test_what_was_acknowledged_survives_kill_9(settings: Settings) -> None:
    chance = random.Random(chosen_seed())
    secret = prepared(settings)
    server = Served(settings)
    server.start()

    async def kill_often() -> None:
        for _ in range(KILLS):
            await asyncio.sleep(chance.uniform(0.05, 0.6))
            server.kill()
            await asyncio.to_thread(server.start)
        await asyncio.sleep(0.3)

    try:
        fleet = asyncio.run(under_load(server, secret, chance, kill_often))
    finally:
        server.kill()
    engine = open_engine(settings)
    print(f"{KILLS} kills, {fleet.tally.acknowledged} reports acknowledged, {fleet.tally.lost} connections lost")
    assert fleet.tally.lost > 0, "no connection was cut: nothing was tested"
    assert_ledger_is_kept(engine, fleet)
    engine.dispose()


@pytest.mark.slow
@pytest.mark.postgresql
def test_two_processes_and_their_supervisor_survive_kill_9(tmp_path: Path) -> None:
    """A process that is killed is replaced; when the supervisor is, the others end, and the next one can listen."""
    chance = random.Random(chosen_seed())
    with made_cluster() as cluster:
        cluster.start()
        settings = Settings(data_dir=tmp_path, database_url=cluster.url)
        secret = prepared(settings)
        server = Served(settings, workers=2)
        server.start()
        killed: Counter[str] = Counter()

        async def kill_often() -> None:
            for number in range(max(KILLS // 3, 3)):
                await asyncio.to_thread(server.wait_for_workers)
                await asyncio.sleep(chance.uniform(0.3, 1.5))
                what = await asyncio.to_thread(
                    server.kill_one, chance, sure=("supervisor", "worker")[number : number + 1]
                )
                killed[what] += 1
                if what == "supervisor":
                    await asyncio.to_thread(server.start)
            await asyncio.to_thread(server.wait_for_workers)
            await asyncio.sleep(0.5)

        try:
            fleet = asyncio.run(under_load(server, secret, chance, kill_often))
        finally:
            server.kill()
        print(f"killed: {dict(killed)}, {fleet.tally.acknowledged} acknowledged, {fleet.tally.lost} connections lost")
        assert killed["supervisor"] > 0
        assert killed["worker"] > 0
        engine = open_engine(settings)
        assert_ledger_is_kept(engine, fleet)
        engine.dispose()
