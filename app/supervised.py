"""The application of one process among several: it ends with the supervisor that started it.

A supervisor that is killed leaves its processes behind. They would go on listening, unseen, and the next one could not.
"""

from __future__ import annotations

import os
import signal
import threading
import time

from fastapi import FastAPI

from app.main import create_app
from app.settings import SUPERVISOR

LOOK_EVERY_S = 0.5


def create_supervised_app() -> FastAPI:
    """The application, and a thread that ends this process in order once its supervisor is gone."""
    supervisor = int(os.environ[SUPERVISOR])
    threading.Thread(target=_end_with, args=(supervisor,), name="supervised", daemon=True).start()
    return create_app()


def _end_with(supervisor: int) -> None:
    # Who has lost its parent gets another one.
    while os.getppid() == supervisor:
        time.sleep(LOOK_EVERY_S)
    os.kill(os.getpid(), signal.SIGTERM)
