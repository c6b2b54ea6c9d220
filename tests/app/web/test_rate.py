"""Token buckets: a burst, then a steady trickle, for each client alone, in bounded memory."""

from __future__ import annotations

from app.web.rate import RateLimit


class Clock:
    """A clock that the test turns."""

    def __init__(self) -> None:
        self.now_s = 1000.0

    def __call__(self) -> float:
        return self.now_s


def test_a_burst_passes_then_one_at_a_time() -> None:
    clock = Clock()
    limit = RateLimit(burst=3, every_s=6, clock=clock)
    assert [limit.take("192.0.2.1") for _ in range(4)] == [0, 0, 0, 6]
    clock.now_s += 4
    assert limit.take("192.0.2.1") == 2
    clock.now_s += 2
    assert [limit.take("192.0.2.1") for _ in range(2)] == [0, 6]
    clock.now_s += 3600
    assert [limit.take("192.0.2.1") for _ in range(4)] == [0, 0, 0, 6]


def test_clients_do_not_pay_for_each_other_but_one_network_is_one_client() -> None:
    limit = RateLimit(burst=1, every_s=60, clock=Clock())
    assert limit.take("192.0.2.1") == 0
    assert limit.take("192.0.2.2") == 0
    assert limit.take("2001:db8::1") == 0
    assert limit.take("2001:db8::ffff:1") == 60
    assert limit.take("2001:db8:0:1::1") == 0
    assert limit.take(None) == 0
    assert limit.take("testclient") == 60


def test_memory_is_bounded_and_who_asks_on_is_remembered() -> None:
    limit = RateLimit(burst=1, every_s=60, max_clients=10, clock=Clock())
    assert limit.take("192.0.2.1") == 0
    for number in range(100):
        limit.take(f"198.51.100.{number}")
        assert limit.take("192.0.2.1") == 60
        assert len(limit) <= 10
    assert limit.take("203.0.113.1") == 0
    assert limit.take("203.0.113.1") == 60
