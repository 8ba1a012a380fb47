#!/bin/sh
# Takes out of the machine what must not travel in an image: identity, secrets, logs, caches. validate.sh, beside this file,
# asserts it, in the same order. Runs last; nothing of Danqing runs yet.
set -eu

gone() { rm -rf -- "$@"; }

emptied() { # $1: a folder that stays
    if [ -d "$1" ]; then find "$1" -xdev -mindepth 1 -delete 2>/dev/null || true; fi
}

# services that would write again while the machine stops
if [ -d /run/systemd/system ]; then
    systemctl stop danqing.target nginx.service rsyslog.service syslog.socket systemd-random-seed.service 2>/dev/null || true
fi

# identity
: >/etc/machine-id
gone /var/lib/dbus/machine-id /etc/ssh/ssh_host_*
gone /var/lib/systemd/random-seed /var/lib/systemd/credential.secret /etc/ssl/private/ssl-cert-snakeoil.key
if command -v cloud-init >/dev/null; then cloud-init clean --logs >/dev/null 2>&1 || true; fi
gone /var/lib/cloud/instances /var/lib/cloud/instance /var/lib/cloud/data
emptied /var/lib/dhcp
emptied /var/lib/NetworkManager
gone /etc/udev/rules.d/70-persistent-net.rules

# Danqing's own first boot has not been
data=/var/lib/danqing/data
gone /root/danqing-password /etc/danqing/local.env /etc/danqing/tls /etc/letsencrypt/live /etc/nginx/danqing/tls.conf
gone /var/lib/danqing/firstboot.json /var/lib/danqing/boot-report.json /var/lib/danqing/boot-report.last.json
gone $data/secrets $data/run $data/cache $data/danqing.db $data/danqing.db-wal $data/danqing.db-shm
emptied $data/outputs
emptied /var/cache/danqing

# people
for home in /root /home/*; do
    gone "$home/.bash_history" "$home/.python_history" "$home/.lesshst" "$home/.viminfo" "$home/.wget-hsts" "$home/.cache" \
        "$home/.aws" "$home/.docker" "$home/.git-credentials" "$home/.gitconfig" "$home/.netrc" "$home/.ansible" \
        "$home/.pip" "$home/.config/pip" "$home/.local/share/uv"
done

# what was fetched for the build
gone /opt/danqing/bootstrap/cache
apt-get clean
emptied /var/lib/apt/lists
emptied /var/cache/apt/archives
gone /var/cache/apt/pkgcache.bin /var/cache/apt/srcpkgcache.bin
gone /etc/pip.conf /etc/apt/apt.conf.d/00-builder

# logs
if [ -d /run/systemd/system ]; then journalctl --rotate --quiet 2>/dev/null || true; fi
emptied /var/log/journal
find /var/log -xdev -type f \( -name '*.gz' -o -name '*.xz' -o -name '*.[0-9]' -o -name '*.old' \) -delete
find /var/log -xdev -type f -exec truncate -s 0 {} +
emptied /var/crash
emptied /var/lib/systemd/coredump

# temporary files
emptied /var/tmp
find /tmp -xdev -mindepth 1 ! -path '/tmp/.*-unix*' -delete 2>/dev/null || true
sync
