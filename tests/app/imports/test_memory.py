"""However large the file, memory stays: the whole command, with storing, in both of its processes."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.app.imports.evtx_files import make_chunks, write_large
from tests.app.imports.logs import mixed_events

MEASURE = """
import json, resource, subprocess, sys
command = [sys.executable, "-m", "app.cli.main", "import", "--json", sys.argv[1]]
done = subprocess.run(command, capture_output=True, text=True)
assert done.returncode == 0, done.stderr
[report] = json.loads(done.stdout)
# Of the command and the process that it starts the larger one; both have at most this much.
print(json.dumps([report["events"], resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss]))
"""


@pytest.mark.slow
def test_memory_is_flat_from_100_to_400_mb(tmp_path: Path) -> None:
    chunks = make_chunks(mixed_events(6000))
    environment = {**os.environ, "WAYLEAVE_DATA_DIR": str(tmp_path / "var"), "WAYLEAVE_DATABASE_URL": ""}
    peaks = []
    for megabytes in (100, 400):
        log = tmp_path / f"{megabytes}.evtx"
        written = write_large(log, chunks, megabytes * 1_000_000)
        command = [sys.executable, "-c", MEASURE, str(log)]
        answer = subprocess.run(command, env=environment, capture_output=True, text=True, check=True, timeout=250)
        events, peak_kb = json.loads(answer.stdout)
        assert events == written
        peaks.append(peak_kb / 1000)
        log.unlink()
    assert max(peaks) * 2 < 300, peaks
    assert peaks[1] < peaks[0] * 1.15 + 5, peaks
