"""The box on one machine: the AMI's own Packer build and Ansible roles against an emulated AWS whose instances really boot.

The cloud is moto behind a thin layer (`cloud.py`); an instance is a systemd-nspawn container with a network of its own
(`machine.py`, `net.py`), an image a stack of folders (`disks.py`). `python -m boxlab` (with `tools` on the path) drives it;
`make box` and `make box-down` call that. Needs root, Debian's tools (`host.py`) and no route but the package registries.
"""
