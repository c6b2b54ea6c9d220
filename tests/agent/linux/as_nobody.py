"""Runs the agent's command line as an ordinary user, under Landlock if folders are given where programs may run.

    python as_nobody.py USER_ID FOLDERS|- COMMAND...

The agent is imported before the rights are given up: an interpreter in root's own home would not be readable after.
"""

from __future__ import annotations

import ctypes
import os
import sys

from agent import cli

cli.build_parser().format_help()  # argparse loads what it formats with only then

CREATE_RULESET, ADD_RULE, RESTRICT_SELF = 444, 445, 446
EXECUTE = 1 << 0
PATH_BENEATH = 1
NO_NEW_PRIVILEGES = 38


class RulesetAttributes(ctypes.Structure):
    _fields_ = (("handled_access_fs", ctypes.c_uint64),)


class PathBeneath(ctypes.Structure):
    _pack_ = 1
    _layout_ = "ms"
    _fields_ = (("allowed_access", ctypes.c_uint64), ("parent_fd", ctypes.c_int32))


def allow_execution_only_below(folders: list[str]) -> None:
    """Let this process and its children execute nothing outside these folders. source: landlock(7)"""
    libc = ctypes.CDLL(None, use_errno=True)
    attributes = RulesetAttributes(handled_access_fs=EXECUTE)
    ruleset = libc.syscall(CREATE_RULESET, ctypes.byref(attributes), ctypes.sizeof(attributes), 0)
    if ruleset < 0:
        sys.exit(f"landlock: {os.strerror(ctypes.get_errno())}")
    for folder in folders:
        descriptor = os.open(folder, os.O_PATH | os.O_CLOEXEC)
        rule = PathBeneath(allowed_access=EXECUTE, parent_fd=descriptor)
        if libc.syscall(ADD_RULE, ruleset, PATH_BENEATH, ctypes.byref(rule), 0) != 0:
            sys.exit(f"landlock: {folder}: {os.strerror(ctypes.get_errno())}")
        os.close(descriptor)
    if libc.prctl(NO_NEW_PRIVILEGES, 1, 0, 0, 0) != 0 or libc.syscall(RESTRICT_SELF, ruleset, 0) != 0:
        sys.exit(f"landlock: {os.strerror(ctypes.get_errno())}")


def main() -> int:
    user, folders, *command = sys.argv[1:]
    if os.geteuid() == 0:
        os.setgroups([])
        os.setgid(int(user))
        os.setuid(int(user))
    if folders != "-":
        allow_execution_only_below([folder for folder in folders.split(":") if os.access(folder, os.F_OK)])
    return cli.main(command)


if __name__ == "__main__":
    sys.exit(main())
