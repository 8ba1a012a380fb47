"""Starts a program that must not outlive its parent: `python -I -S child.py PARENT_PID PROGRAM ARGUMENT...`.

Run as a file in a bare interpreter (it imports nothing of the package), because setting the parent-death signal between fork
and exec of a process with threads is not safe, and the setting survives exec.
"""

import ctypes
import os
import signal
import sys

PR_SET_PDEATHSIG = 1


def main(parent: int, command: list[str]) -> None:
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        sys.exit("the parent is gone")
    os.execvp(command[0], command)


if __name__ == "__main__":
    main(int(sys.argv[1]), sys.argv[2:])
