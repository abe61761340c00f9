"""Runs a test where its process has `CAP_NET_ADMIN`, which needs no privilege where Linux allows user namespaces."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
from pathlib import Path

TCP_REPAIR = 19
"""The option of Linux under which a socket closes without telling its peer."""
LIMIT = 110.0
"""Seconds that a test has in a namespace, fewer than all tests have."""
NEEDED = "this test needs CAP_NET_ADMIN, or `unshare` and a system that allows user and network namespaces"
PROGRAM = """
import fcntl, socket, struct, sys
import pytest

UP, SET_FLAGS, RUNNING = 0x1, 0x8914, 0x40
with socket.socket() as any_socket:
    fcntl.ioctl(any_socket, SET_FLAGS, struct.pack("16sh14x", b"lo", UP | RUNNING))
    any_socket.setsockopt(socket.IPPROTO_TCP, int(sys.argv[2]), 1)
sys.exit(pytest.main(["-q", "-p", "no:cacheprovider", sys.argv[1]]))
"""
"""Switches on the loopback interface of a new network, makes sure of the capability, and runs a test."""


def may_repair() -> bool:
    """Whether this process may set `TCP_REPAIR`, which takes `CAP_NET_ADMIN`."""
    with socket.socket() as peer:
        try:
            peer.setsockopt(socket.IPPROTO_TCP, TCP_REPAIR, 1)
        except PermissionError:
            return False
        return True


def run_in_namespace(test: str) -> None:
    """Runs a test, named as pytest names it, in user and network namespaces of its own, where it must pass."""
    unshare = shutil.which("unshare")
    assert unshare is not None, NEEDED
    command = [unshare, "--user", "--map-root-user", "--net", sys.executable, "-c", PROGRAM, test, str(TCP_REPAIR)]
    root = Path(__file__).parents[2]
    # What pytest keeps of the test that runs is in its environment.
    environment = {name: value for name, value in os.environ.items() if name != "PYTEST_CURRENT_TEST"}
    done = subprocess.run(
        command, capture_output=True, text=True, timeout=LIMIT, check=False, cwd=root, env=environment
    )
    assert done.returncode == 0, f"{NEEDED}:\n{done.stdout}{done.stderr}"
    assert "1 passed" in done.stdout, done.stdout
