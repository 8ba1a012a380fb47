"""The data volume: it outlives the machine and moves to the next one (an upgrade by launching again)."""

from __future__ import annotations

from collections.abc import Callable

from tests.box.conftest import Box

PICTURES = "find /var/lib/danqing/data/outputs -name '*.png' | sort | xargs sha256sum"


def test_pictures_and_password_file_move_to_the_next_machine(launch: Callable[..., Box]) -> None:
    old = launch("moving", "--data", "1")
    assert "/var/lib/danqing/data" in old.sh("cat /proc/mounts")
    old.draw(prompt="a picture that moves")
    kept = old.sh(PICTURES).splitlines()
    assert kept
    new = launch("moving", "--replace")
    assert new.instance != old.instance
    assert old.instance not in new.made.machines()
    moved = new.sh(PICTURES).splitlines()
    assert [line for line in moved if line in kept] == kept
    # The next machine's own warm-up draws into the folder of pictures that nobody asked to keep.
    assert all("/api-temp/" in line for line in moved if line not in kept)
    assert new.draw(prompt="after the move")["images"]
