#!/bin/sh
# Looks at a finished image and refuses what must not be in one; clean.sh, beside this file, took it out.
#   MARKETPLACE=1  what AWS Marketplace refuses is refused too
#   SEALED=1       the builder has left: not even its own key may be there
#   ROOT=/path     an image that is not running, mounted there
# Prints a line for each thing that is wrong and exits 1 when there was one.
set -u

root=${ROOT:-}
data=$root/var/lib/danqing/data
wrong=0

bad() {
    printf 'validate: %s\n' "$*" >&2
    wrong=$((wrong + 1))
}

absent() {
    for path in "$@"; do
        if [ -e "$root$path" ] || [ -L "$root$path" ]; then bad "$path is there"; fi
    done
}

empty_folder() { # a folder that is there or not, without a file
    [ -d "$root$1" ] || return 0
    found=$(find "$root$1" -xdev -type f -size +0 2>/dev/null | head -n 1)
    [ -z "$found" ] || bad "$1 is not empty: ${found#"$root"}"
}

# identity
[ ! -s "$root/etc/machine-id" ] || bad "/etc/machine-id is not empty: every clone would be the same machine"
for key in "$root"/etc/ssh/ssh_host_*; do
    [ ! -e "$key" ] || bad "${key#"$root"} is there: every clone would have the same host key"
done
absent /var/lib/systemd/random-seed /var/lib/systemd/credential.secret /etc/ssl/private/ssl-cert-snakeoil.key
absent /var/lib/cloud/instance /etc/udev/rules.d/70-persistent-net.rules
empty_folder /var/lib/cloud/instances
empty_folder /var/lib/dhcp

# Danqing's own first boot has not been
absent /root/danqing-password /etc/danqing/local.env /etc/danqing/tls/privkey.pem /etc/nginx/danqing/tls.conf
absent /var/lib/danqing/firstboot.json /var/lib/danqing/boot-report.json
for path in secrets run cache danqing.db danqing.db-wal; do
    [ ! -e "$data/$path" ] || bad "/var/lib/danqing/data/$path is there"
done
empty_folder /var/lib/danqing/data/outputs
empty_folder /var/cache/danqing

# people
for home in "$root/root" "$root"/home/*; do
    for name in .bash_history .python_history .cache .aws .docker .git-credentials .netrc; do
        [ ! -e "$home/$name" ] || bad "${home#"$root"}/$name is there"
    done
    for key in "$home"/.ssh/id_*; do
        [ ! -e "$key" ] || bad "${key#"$root"} is there"
    done
    keys=$home/.ssh/authorized_keys
    [ -f "$keys" ] || continue
    count=$(grep -o 'AAAA[A-Za-z0-9+/=]*' "$keys" | sort -u | grep -c . || true)
    allowed=1
    [ "${SEALED:-0}" = 1 ] && allowed=0
    [ "$count" -le "$allowed" ] || bad "${keys#"$root"} has $count keys, at most $allowed (the builder's) may be there"
done
if [ -r "$root/etc/shadow" ]; then
    users=$(awk -F: '$2 ~ /^[^!*]/ || $2 == "" {print $1}' "$root/etc/shadow")
    for user in $users; do
        bad "the user $user may log in with a password, or without one"
    done
fi

# secrets that programs leave
for folder in etc root home opt/danqing/share var/lib/danqing srv; do
    [ -d "$root/$folder" ] || continue
    for file in $(grep -rlsI -m 1 -e '-----BEGIN [A-Z ]*PRIVATE KEY-----' "$root/$folder" 2>/dev/null | head -n 5); do
        bad "${file#"$root"} holds a private key"
    done
    for file in $(grep -rlsIE -m 1 -e '(AKIA|ASIA)[A-Z0-9]{16}' "$root/$folder" 2>/dev/null | head -n 5); do
        bad "${file#"$root"} holds an AWS access key"
    done
done
if grep -qiE '^[A-Z_]*(PASSWORD|SECRET|TOKEN|ACCESS_KEY)[A-Z_]*=.' "$root/etc/danqing/danqing.env" 2>/dev/null; then
    bad "/etc/danqing/danqing.env holds a secret"
fi

# what was fetched for the build
absent /opt/danqing/bootstrap/cache /etc/pip.conf
empty_folder /var/lib/apt/lists
[ -z "$(find "$root/var/cache/apt" -name '*.deb' 2>/dev/null | head -n 1)" ] || bad "/var/cache/apt holds packages"

# logs: what this very check writes is little
size=$(du -sk "$root/var/log" 2>/dev/null | cut -f 1)
[ "${size:-0}" -le 20480 ] || bad "/var/log has $size KB"
empty_folder /var/crash
empty_folder /var/lib/systemd/coredump
empty_folder /var/tmp

# what must be there
for path in /opt/danqing/venv/bin/danqing /opt/danqing/share/image.json /opt/danqing/share/torch-build.json \
    /opt/danqing/www/waiting.html /opt/danqing/share/licenses/README.txt /etc/danqing/danqing.env; do
    [ -e "$root$path" ] || bad "$path is missing"
done
for unit in danqing.target nginx.service; do
    [ -L "$root/etc/systemd/system/multi-user.target.wants/$unit" ] || bad "$unit does not start at boot"
done
for unit in firstboot prefetch web engine warmup; do
    [ -L "$root/etc/systemd/system/danqing.target.wants/danqing-$unit.service" ] || bad "danqing-$unit does not start at boot"
done
[ -n "$(find "$root"/opt/danqing/venv/lib/python3*/site-packages/danqing/__pycache__ -name 'cli.*.pyc' 2>/dev/null)" ] ||
    bad "the app has no bytecode: every boot would compile it again"
grep -qs '^PasswordAuthentication no' "$root/etc/ssh/sshd_config.d/00-danqing.conf" || bad "ssh accepts passwords"
grep -qs '^PermitRootLogin no' "$root/etc/ssh/sshd_config.d/00-danqing.conf" || bad "ssh lets root in"
free=$(df -Pk "${root:-/}" | awk 'NR == 2 {print $4}')
[ "${free:-0}" -ge 1048576 ] || bad "only $free KB are free on the root file system"

# AWS Marketplace
if [ "${MARKETPLACE:-0}" = 1 ]; then
    end=$(sed -n 's/.*"end_of_life": "\([0-9-]*\)".*/\1/p' "$root/opt/danqing/share/image.json" 2>/dev/null)
    today=$(date +%Y-%m-%d)
    if [ -z "$end" ] || [ "$(printf '%s\n%s\n' "$end" "$today" | sort | head -n 1)" = "$end" ]; then
        bad "Marketplace takes no system past its end of life (${end:-unknown}); build with BASE=noble-pytorch"
    fi
    grep -qsE '^(root):[!*]' "$root/etc/shadow" || bad "Marketplace wants root's password locked"
    [ -x "$root/usr/bin/sudo" ] || bad "Marketplace wants sudo"
fi

if [ $wrong -gt 0 ]; then
    printf 'validate: %s things are wrong\n' "$wrong" >&2
    exit 1
fi
echo "validate: the image is clean"
