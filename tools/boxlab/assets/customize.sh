#!/bin/sh
# The last step of the base: the settings that a cloud image comes with. $1 is its root.
set -eu
root=$1

printf '127.0.0.1 localhost\n127.0.1.1 debian\n' >"$root/etc/hosts"
echo debian >"$root/etc/hostname"
rm -f "$root/etc/resolv.conf"
: >"$root/etc/resolv.conf"
: >"$root/etc/machine-id"
rm -f "$root"/etc/ssh/ssh_host_* "$root/var/lib/dbus/machine-id"

cat >"$root/etc/cloud/cloud.cfg.d/90_lab.cfg" <<'CONFIG'
datasource_list: [Ec2]
datasource:
  Ec2:
    strict_id: false
    timeout: 5
    max_wait: 30
network:
  config: disabled
manage_etc_hosts: localhost
system_info:
  default_user:
    name: admin
    lock_passwd: true
    gecos: Debian
    groups: [adm, sudo]
    sudo: ["ALL=(ALL) NOPASSWD:ALL"]
    shell: /bin/bash
ssh_genkeytypes: [ed25519, ecdsa]
growpart:
  mode: "off"
resize_rootfs: false
CONFIG
echo 'policy: enabled' >"$root/etc/cloud/ds-identify.cfg"

# cloud-init knows EC2, and with it IMDSv2, by the machine's DMI tables, which no container has
sed -i 's/^def identify_platform():$/&\n    return CloudNames.AWS/' \
    "$root/usr/lib/python3/dist-packages/cloudinit/sources/DataSourceEc2.py"

chroot "$root" systemctl -q enable cloud-init-local cloud-init cloud-config cloud-final ssh
# a container has neither devices, nor terminals, nor modules to load
chroot "$root" systemctl -q mask systemd-udevd.service getty@tty1.service console-getty.service
chroot "$root" systemctl -q mask apt-daily.timer apt-daily-upgrade.timer nvmf-autoconnect.service
