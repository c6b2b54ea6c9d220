"""`python -m installer.build [--sign PROGRAM] [--output FOLDER]`: all that an agent is rolled out with.

Makes, in `dist/`: the frozen directory `wayleave-agent/`, the MSI `wayleave-agent-VERSION-x64.msi`, `agent.pyz` for
trials, the bill of materials `wayleave-agent-VERSION.cdx.json`, and SHA256SUMS over them. PROGRAM is started with the
path of one file at a time and signs it in place: first our own binaries, then the MSI. Without it nothing is signed.

Needs what the Windows bench needs (root on Debian, tests/windows/README.md), wixl and msitools.
"""

from __future__ import annotations

import argparse
import fcntl
import hashlib
import shutil
import sys
from collections.abc import Callable
from pathlib import Path

from agent import __version__
from installer.binaries import CONSOLE, LIBRARY, WINDOWED, BuildError, run_tool
from installer.frozen import Frozen, freeze
from installer.msi import build_msi
from installer.sbom import write_sbom
from installer.trial import build_trial
from tests.windows.bench import setup
from tests.windows.bench.debian import BenchError
from tests.windows.bench.places import BENCH, REPOSITORY
from tests.windows.bench.run import start_server, stop_server

Sign = Callable[[Path], None]


def main(arguments: list[str] | None = None) -> int:
    """Builds everything. Exit codes: 0 done, 1 something is missing or failed: the message says what."""
    parser = argparse.ArgumentParser(prog="installer.build", description="Builds the agent's packages.")
    parser.add_argument("--sign", metavar="PROGRAM", help="started with one file at a time, which it signs in place")
    parser.add_argument("--output", type=Path, default=REPOSITORY / "dist", metavar="FOLDER")
    parsed = parser.parse_args(arguments)
    try:
        for program in ("wixl", "msibuild", "msiinfo"):
            if shutil.which(program) is None:
                raise BuildError(f"needs {program} (Debian packages wixl and msitools)")
        setup.build()
        with (BENCH / ".in-use").open("w") as lock:
            # The bench has one drive: a test run that uses it goes first.
            fcntl.flock(lock, fcntl.LOCK_EX)
            start_server()
            try:
                frozen = freeze(parsed.output / "wayleave-agent")
            finally:
                stop_server()
        made = pack(frozen, parsed.output, sign=signer(parsed.sign) if parsed.sign else None)
        made.append(build_trial(parsed.output / "agent.pyz"))
        write_sums(parsed.output, made)
    except (BuildError, BenchError, OSError) as error:
        print(f"installer: {error}", file=sys.stderr)
        return 1
    for path in made:
        print(f"{path.stat().st_size:>10}  {path}")
    return 0


def pack(frozen: Frozen, output: Path, *, sign: Sign | None = None, version: str = __version__) -> list[Path]:
    """The bill of materials and the MSI of a frozen directory. Signed are our own files: the others are already."""
    if sign:
        for name in (CONSOLE, WINDOWED, LIBRARY):
            sign(frozen.directory / name)
    bill = output / f"wayleave-agent-{version}.cdx.json"
    shutil.copyfile(write_sbom(frozen), bill)
    msi = output / f"wayleave-agent-{version}-x64.msi"
    build_msi(frozen.directory, msi, version=version)
    if sign:
        sign(msi)
    return [msi, bill]


def signer(program: str) -> Sign:
    """Signing by somebody's program: it is started with the file's path."""
    return lambda file: print(run_tool([program, str(file)]), end="", file=sys.stderr)


def write_sums(output: Path, made: list[Path]) -> None:
    """SHA256SUMS, as `sha256sum --check` reads it."""
    lines = [f"{hashlib.sha256(path.read_bytes()).hexdigest()}  {path.name}\n" for path in sorted(made)]
    (output / "SHA256SUMS").write_text("".join(lines))


if __name__ == "__main__":
    sys.exit(main())
