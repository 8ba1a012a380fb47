#!/bin/sh
# Makes .venv with the locked dependencies and Danqing itself. Whatever state it finds, it ends with a whole one or an error:
# .venv/danqing-setup says `begun` while it works and afterwards what the environment was made from.
set -eu
cd "$(dirname "$0")/.."

venv=.venv
mark=$venv/danqing-setup
oldest="3, 11"

say() { printf '%s\n' "$*" >&2; }

usable() { # $1: a Python to try; a shim of a version manager may be there and not run
    "$1" -c "import sys; sys.exit(sys.version_info < ($oldest))" >/dev/null 2>&1
}

wanted() { # what a finished environment was made from: the lists, and where the tree stands
    { cat pyproject.toml constraints.txt tools/setup.sh && pwd -P; } | cksum
}

no_python() {
    found=$(python3 --version 2>/dev/null || echo "none")
    say "Danqing needs Python 3.11 or newer; found: $found."
    say "  Debian 12, Ubuntu 24.04 and newer:  apt install python3 python3-venv"
    say "  older systems, with uv (https://docs.astral.sh/uv/):"
    say "      uv venv --python 3.12 --seed .venv && make setup"
    say "  or name one:  make setup PYTHON=/path/to/python3.12"
    exit 1
}

find_python() {
    if [ -n "$PYTHON" ]; then
        usable "$PYTHON" || { say "PYTHON=$PYTHON does not run, or is older than Python 3.11."; exit 1; }
        printf '%s\n' "$PYTHON"
        return
    fi
    for name in python3 python3.13 python3.12 python3.11 python3.14; do
        if usable "$name"; then
            printf '%s\n' "$name"
            return
        fi
    done
    no_python
}

create() {
    python=$(find_python)
    # the Python under an activated .venv, which is about to go
    python=$("$python" -c 'import sys; print(getattr(sys, "_base_executable", sys.executable))')
    if ! "$python" -c 'import venv, ensurepip' >/dev/null 2>&1; then
        say "$("$python" --version) has no venv module. On Debian and Ubuntu:  apt install python3-venv"
        exit 1
    fi
    say "Making $venv with $("$python" --version)."
    rm -rf "$venv"
    mkdir "$venv"
    printf 'begun\n' >"$mark"
    "$python" -m venv "$venv"
}

prepare() { # an environment to install into: an interrupted or older one is made anew, one from elsewhere (uv) is taken as it is
    if [ -f "$mark" ] && [ "$(cat "$mark")" = begun ]; then
        say "The last setup was interrupted; starting again."
        if [ -z "$PYTHON" ] && usable "$venv/bin/python"; then PYTHON=$venv/bin/python; fi
        create
    elif ! usable "$venv/bin/python"; then
        create
    fi
    printf 'begun\n' >"$mark"
    "$venv/bin/python" -m pip --version >/dev/null 2>&1 || "$venv/bin/python" -m ensurepip >/dev/null
}

pip() { "$venv/bin/python" -m pip -qq --disable-pip-version-check "$@"; }

install() {
    say "Installing the dependencies; the first time this takes minutes."
    # torch comes first and alone: an index with builds for CPUs only has nothing but torch
    pip install -c constraints.txt ${TORCH_INDEX:+--index-url "$TORCH_INDEX"} torch
    pip install -c constraints.txt -e '.[cloud,dev]'
    "$venv/bin/python" -m compileall -q app/danqing
}

: "${PYTHON=}" "${TORCH_INDEX=}"
if command -v flock >/dev/null 2>&1; then # two at once: the second waits and finds the work done
    exec 9<.
    flock 9
fi
if [ -f "$mark" ] && [ "$(cat "$mark")" = "$(wanted)" ] && usable "$venv/bin/python"; then
    exit 0
fi
prepare
install
wanted >"$mark.new"
mv "$mark.new" "$mark"
say "Ready: make run"
