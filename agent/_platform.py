"""The calls of the platform that the agent runs on: `_windows` and its neighbours, or `_posix`; the same functions."""

from __future__ import annotations

import sys

if sys.platform == "win32":
    from agent._asking_windows import ask_safer, load_library
    from agent._controls_windows import read_controls
    from agent._events_windows import read_channel
    from agent._places_windows import long_name, open_place
    from agent._service_windows import query_service
    from agent._start_windows import start_suspended
    from agent._token_windows import read_principal
    from agent._trust_windows import read_trust
    from agent._windows import (
        CANARY,
        CREATION_FLAGS,
        PLATFORM,
        find_state_dir,
        is_link,
        mode_allows_start,
        open_lock,
        read_host,
        read_machine_account,
        read_machine_id,
        read_machine_variables,
        read_policy,
    )
else:
    from agent._posix import (
        CANARY,
        CREATION_FLAGS,
        PLATFORM,
        ask_safer,
        find_state_dir,
        is_link,
        load_library,
        long_name,
        mode_allows_start,
        open_lock,
        open_place,
        query_service,
        read_channel,
        read_controls,
        read_host,
        read_machine_account,
        read_machine_id,
        read_machine_variables,
        read_policy,
        read_principal,
        read_trust,
        start_suspended,
    )

__all__ = [
    "CANARY",
    "CREATION_FLAGS",
    "PLATFORM",
    "ask_safer",
    "find_state_dir",
    "is_link",
    "load_library",
    "long_name",
    "mode_allows_start",
    "open_lock",
    "open_place",
    "query_service",
    "read_channel",
    "read_controls",
    "read_host",
    "read_machine_account",
    "read_machine_id",
    "read_machine_variables",
    "read_policy",
    "read_principal",
    "read_trust",
    "start_suspended",
]
