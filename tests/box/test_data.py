"""The data volume: it outlives the machine and moves to the next one (an upgrade by launching again)."""

from __future__ import annotations

from collections.abc import Callable

from tests.box.conftest import Box


def test_pictures_and_password_file_move_to_the_next_machine(launch: Callable[..., Box]) -> None:
    old = launch("moving", "--data", "1")
    assert "/var/lib/danqing/data" in old.sh("cat /proc/mounts")
    old.draw(prompt="a picture that moves")
    kept = old.sh("find /var/lib/danqing/data/outputs -name '*.png' | sort")
    assert kept
    new = launch("moving", "--replace")
    assert new.instance != old.instance
    assert old.instance not in new.made.machines()
    assert new.sh("find /var/lib/danqing/data/outputs -name '*.png' | sort") == kept
    assert new.draw(prompt="after the move")["images"]
