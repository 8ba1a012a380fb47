"""The data volume, on real block devices with real file systems."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from danqing.box import volume
from danqing.box.errors import BoxError
from danqing.box.places import Places
from danqing.box.volume import ANY, Disk
from tests.boxcli.conftest import needs_root

VOL = "vol-0123456789abcdef0"
ROOT_DISK = Disk("/dev/nvme0n1", serial="vol0aaaaaaaaaaaaaaaa", parts=True)
STORE = Disk("/dev/nvme1n1", model=volume.STORE, zero=True)
NEW = Disk("/dev/nvme2n1", serial="vol0123456789abcdef0", zero=True)
OURS = Disk("/dev/nvme3n1", serial="vol0bbbbbbbbbbbbbbbb", label=volume.LABEL, kind="ext4")
FOREIGN = Disk("/dev/nvme4n1", kind="ntfs")


@pytest.mark.parametrize(
    ("found", "wanted", "chosen"),
    [
        ([ROOT_DISK, STORE, NEW], "auto", None),
        ([ROOT_DISK, OURS, NEW], "auto", OURS),
        ([ROOT_DISK, STORE, NEW], ANY, NEW),
        ([ROOT_DISK, NEW, OURS], ANY, OURS),
        ([ROOT_DISK, STORE], ANY, None),
        ([ROOT_DISK, FOREIGN], ANY, None),
        ([ROOT_DISK, NEW, Disk("/dev/nvme9n1", zero=True)], ANY, None),
        ([ROOT_DISK, OURS, NEW], VOL, NEW),
        ([ROOT_DISK, OURS], VOL, None),
        ([ROOT_DISK, Disk("/dev/sdf")], VOL, Disk("/dev/sdf")),
        ([ROOT_DISK, OURS], "/dev/nvme3n1", OURS),
        ([ROOT_DISK, OURS], "/dev/nvme7n1", None),
    ],
)
def test_which_disk_is_meant(found: list[Disk], wanted: str, chosen: Disk | None) -> None:
    assert volume.choose(found, wanted) == chosen


def test_somebody_elses_data_is_never_overwritten() -> None:
    for disk in (FOREIGN, ROOT_DISK, Disk("/dev/x", zero=False), Disk("/dev/x", kind="ext4", label="home")):
        with pytest.raises(BoxError) as error:
            volume.prepare(disk)
        assert error.value.code == "volume_foreign"


# -- links to the image's models --


def test_models_of_the_image_show_through_and_old_links_go(tmp_path: Path) -> None:
    image, models = tmp_path / "image", tmp_path / "models"
    (image / "VAE").mkdir(parents=True)
    (image / "Stable-diffusion/sub").mkdir(parents=True)
    (image / "VAE/a.safetensors").write_text("a")
    (image / "Stable-diffusion/sub/b.safetensors").write_text("b")
    models.mkdir()
    (models / "gone.safetensors").symlink_to(image / "gone.safetensors")
    (models / "VAE").mkdir()
    (models / "VAE/own.safetensors").write_text("mine")
    for _ in range(2):
        volume.link_models(image, models)
        assert (models / "VAE/a.safetensors").read_text() == "a"
        assert (models / "Stable-diffusion/sub/b.safetensors").read_text() == "b"
        assert (models / "VAE/own.safetensors").read_text() == "mine"
        assert not (models / "gone.safetensors").is_symlink()
    (models / "VAE/a.safetensors").unlink()
    (models / "VAE/a.safetensors").write_text("a user's own of that name")
    volume.link_models(image, models)
    assert (models / "VAE/a.safetensors").read_text() == "a user's own of that name"


# -- real devices --


@pytest.fixture
def device(tmp_path: Path) -> Iterator[str]:
    """A loop device over a sparse file of 64 MiB."""
    if os.geteuid() != 0:
        pytest.skip("needs root")
    path = tmp_path / "volume.img"
    with path.open("wb") as file:
        file.truncate(64 << 20)
    done = subprocess.run(["losetup", "--find", "--show", str(path)], capture_output=True, text=True)
    if done.returncode != 0:
        pytest.skip(f"no loop devices here: {done.stderr.strip()}")
    name = done.stdout.strip()
    yield name
    subprocess.run(["losetup", "--detach", name], check=True)


@pytest.fixture
def unmounted(places: Places) -> Iterator[Places]:
    yield places
    for path in (places.data, places.image_models):
        subprocess.run(["umount", str(path)], capture_output=True)


def test_a_new_volume_is_seen_as_blank_and_ours_as_ours(device: str) -> None:
    assert volume.probe(device).blank
    volume.prepare(volume.probe(device))
    found = volume.probe(device)
    assert (found.label, found.kind, found.blank) == (volume.LABEL, "ext4", False)


def test_one_byte_makes_it_somebodys(device: str) -> None:
    with open(device, "r+b") as file:
        file.seek(5000)
        file.write(b"x")
        file.flush()
        os.fsync(file.fileno())
    assert not volume.probe(device).blank
    with pytest.raises(BoxError):
        volume.prepare(volume.probe(device))


@needs_root
def test_data_outlives_the_machine(unmounted: Places, device: str) -> None:
    places = unmounted
    model = places.data / "models/Stable-diffusion/of-the-image.safetensors"
    model.parent.mkdir(parents=True)
    model.write_text("weights")
    volume.prepare(volume.probe(device))
    volume.mount(places, volume.probe(device))
    assert os.path.ismount(places.data)
    assert model.read_text() == "weights"
    assert model.is_symlink()
    (places.data / "outputs").mkdir()
    (places.data / "outputs/a.png").write_text("picture")
    volume.mount(places, volume.probe(device))  # a second time changes nothing
    for path in (places.data, places.image_models):
        subprocess.run(["umount", str(path)], check=True)
    assert not (places.data / "outputs").exists()

    # the next machine, with another image
    model.unlink()
    other = model.with_name("newer.safetensors")
    other.write_text("newer weights")
    volume.prepare(volume.probe(device))
    volume.mount(places, volume.probe(device))
    assert (places.data / "outputs/a.png").read_text() == "picture"
    assert other.read_text() == "newer weights"
    assert not model.is_symlink()


def test_disks_of_this_machine_can_be_listed() -> None:
    assert all(volume.EBS.match(disk.path) or disk.path in volume.ATTACHED for disk in volume.disks())
