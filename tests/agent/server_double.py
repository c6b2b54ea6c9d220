"""A server that keeps the rules of the wire in memory: what a test of the delivery talks to."""

from __future__ import annotations

import gzip
import json
from dataclasses import dataclass, field
from typing import Any

import httpx

from agent.contract.canonical import digest


@dataclass
class ServerDouble:
    """Takes reports as the wire says. `answers`: responses given before its own, first come first served.

    `catalogue`: body and signature, told under `etag`; None: whatever catalogue the agent has is the one.
    """

    token: str = "wl_1_first"
    secrets: set[str] = field(default_factory=lambda: {"s3cret"})
    bodies: dict[str, str] = field(default_factory=dict)
    epoch: int = 0
    sequence: int = 0
    recorded: list[dict[str, Any]] = field(default_factory=list)
    requests: list[dict[str, Any]] = field(default_factory=list)
    answers: list[httpx.Response | Exception] = field(default_factory=list)
    lose_answers: int = 0
    catalogue: tuple[bytes, str] | None = None
    etag: str = "etag"

    def transport(self) -> httpx.MockTransport:
        return httpx.MockTransport(self._answer)

    def _answer(self, request: httpx.Request) -> httpx.Response:
        if request.method == "GET":
            if self.catalogue is None:
                return httpx.Response(304)
            return httpx.Response(200, content=self.catalogue[0], headers={"Wayleave-Signature": self.catalogue[1]})
        compressed = request.headers.get("Content-Encoding") == "gzip"
        message = json.loads(gzip.decompress(request.content) if compressed else request.content)
        self.requests.append({"path": request.url.path, "at": request.headers.get("Authorization"), **message})
        if self.answers:
            answer = self.answers.pop(0)
            if isinstance(answer, Exception):
                raise answer
            return answer
        if request.url.path.endswith("/enrol"):
            return self._enrol(message)
        answer = self._record(message, request.headers.get("Authorization", ""))
        if self.lose_answers:
            self.lose_answers -= 1
            raise httpx.ReadTimeout("lost", request=request)
        return answer

    def _enrol(self, message: dict[str, Any]) -> httpx.Response:
        if message["secret"] not in self.secrets:
            return refusal(401, "secret")
        self.token = f"wl_{len(self.requests)}_again"
        return httpx.Response(201, json={"host_id": "9", "token": self.token, "next_report_s": 600})

    def _record(self, message: dict[str, Any], authorization: str) -> httpx.Response:
        if authorization != f"Bearer {self.token}":
            return refusal(401, "unknown")
        acknowledged = httpx.Response(
            200, json={"report_id": message["report_id"], "next_report_s": 600, "catalogue": self.etag}
        )
        if any(known["report_id"] == message["report_id"] for known in self.recorded):
            return acknowledged
        if message["epoch"] < self.epoch or (message["epoch"] == self.epoch and message["sequence"] < self.sequence):
            return refusal(409, "sequence_too_old")
        if (message["epoch"], message["sequence"]) == (self.epoch, self.sequence):
            return refusal(409, "sequence_reused")
        for kind, name in message["sets"].items():
            if name in message["bodies"]:
                assert digest(kind, message["bodies"][name]) == name
                self.bodies[name] = message["bodies"][name]
        missing = [name for name in message["sets"].values() if name not in self.bodies]
        if missing:
            return refusal(409, "missing", missing=missing)
        self.epoch, self.sequence = message["epoch"], message["sequence"]
        self.recorded.append(message)
        return acknowledged


def refusal(status: int, error: str, *, retry_after: int | None = None, **more: object) -> httpx.Response:
    """A refusal as the wire has it."""
    headers = {} if retry_after is None else {"Retry-After": str(retry_after)}
    return httpx.Response(status, json={"error": error, "message": "told", "field": None, **more}, headers=headers)
