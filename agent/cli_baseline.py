"""`wayleave-agent baseline`: a list of what an administrator vouches for, taken on a trusted machine."""

from __future__ import annotations

import argparse
import importlib
import sys
import time
from pathlib import Path
from typing import Any

from agent.cli_exits import DONE, FAILED, WRONG_USE, fail
from agent.options import Options

PROGRESS_EVERY_S = 2.0


def add_baseline_command(commands: Any, common: argparse.ArgumentParser) -> None:
    """Add the command to the command line's grammar."""
    baseline = commands.add_parser(
        "baseline",
        parents=[common],
        help="list the programs below folders of a trusted machine, for `wayleave baseline add`",
    )
    baseline.add_argument("folders", nargs="+", type=Path, metavar="DIR", help="a folder, or a file alone")
    baseline.add_argument("--out", type=Path, required=True, metavar="FILE", help="the list that is written")
    baseline.add_argument("--source", default="", metavar="TEXT", help="where the files come from, in words")
    baseline.add_argument("--without-libraries", action="store_true", help="leave DLLs out")
    baseline.set_defaults(run=_baseline)


def _baseline(parsed: argparse.Namespace, _options: Options) -> int:
    # Only this command reads PE files by the thousand: the others start without it.
    taking = importlib.import_module("agent.baseline")
    listing_module = importlib.import_module("agent.pe.listing")
    if len(parsed.source) > 500 or not parsed.source.isprintable():
        return fail("--source: at most 500 printable letters", WRONG_USE)
    try:
        listing = taking.take_baseline(
            parsed.folders,
            source=parsed.source,
            with_libraries=not parsed.without_libraries,
            progress=_told_now_and_then(),
        )
    except taking.TooMuch as error:
        return fail(str(error), WRONG_USE)
    except FileNotFoundError as error:
        return fail(f"{error.filename}: {error.strerror}", WRONG_USE)
    data = listing_module.encode_listing(listing)
    parsed.out.write_bytes(data)
    for one in listing.left_out:
        print(f"left out: {one.path}: {one.reason}", file=sys.stderr)
    signed = sum(one.identity.publisher is not None for one in listing.files)
    print(f"{len(listing.files)} files listed ({signed} signed), {len(listing.left_out)} left out")
    print(f"{parsed.out}  sha256:{listing.sha256}")
    return DONE if listing.files else fail("no program, library, script or installer there", FAILED)


def _told_now_and_then() -> Any:
    last = time.monotonic()

    def tell(looked_at: int, taken: int) -> None:
        nonlocal last
        if time.monotonic() - last > PROGRESS_EVERY_S:
            last = time.monotonic()
            print(f"{looked_at} files looked at, {taken} taken", file=sys.stderr, flush=True)

    return tell
