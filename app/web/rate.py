"""How often one client may ask what costs the server something: token buckets in memory, a bounded number of them."""

from __future__ import annotations

import ipaddress
import math
import threading
import time
from collections import OrderedDict
from collections.abc import Callable

MAX_CLIENTS = 10_000


class RateLimit:
    """`burst` requests at once, then one every `every_s` seconds, for each client; per process.

    When there are more clients than `max_clients`, the one that was quiet longest is forgotten.
    """

    def __init__(
        self, *, burst: int, every_s: float, max_clients: int = MAX_CLIENTS, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._burst = burst
        self._every_s = every_s
        self._max_clients = max_clients
        self._clock = clock
        self._lock = threading.Lock()
        # client -> (tokens left, when that was counted); the one that asked last stands last
        self._buckets: OrderedDict[str, tuple[float, float]] = OrderedDict()

    def take(self, address: str | None) -> int:
        """0 if the client may go on, else the seconds to wait. `address`: where the request came from."""
        client = client_of(address)
        with self._lock:
            now = self._clock()
            left, counted_at = self._buckets.pop(client, (float(self._burst), now))
            left = min(float(self._burst), left + (now - counted_at) / self._every_s)
            may_go = left >= 1
            self._buckets[client] = (left - 1 if may_go else left, now)
            if len(self._buckets) > self._max_clients:
                self._buckets.popitem(last=False)
        return 0 if may_go else max(1, math.ceil((1 - left) * self._every_s))

    def __len__(self) -> int:
        return len(self._buckets)


def client_of(address: str | None) -> str:
    """Who counts as one client: an IPv4 address, or the /64 of an IPv6 address, which one household has whole.

    >>> client_of("192.0.2.7"), client_of("2001:db8:1:2:3:4:5:6"), client_of("::ffff:192.0.2.7"), client_of(None)
    ('192.0.2.7', '2001:db8:1:2::', '192.0.2.7', 'unknown')
    """
    try:
        parsed = ipaddress.ip_address((address or "").partition("%")[0])
    except ValueError:
        return "unknown"
    if isinstance(parsed, ipaddress.IPv4Address):
        return str(parsed)
    if parsed.ipv4_mapped is not None:
        return str(parsed.ipv4_mapped)
    return str(ipaddress.IPv6Address(int(parsed) >> 64 << 64))
