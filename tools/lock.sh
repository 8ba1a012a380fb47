#!/bin/sh
# Resolves pyproject.toml without constraints in an environment of its own and writes what came out to constraints.txt.
set -eu
cd "$(dirname "$0")/.."

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT INT TERM
"${PYTHON:-python3}" -m venv "$work/venv"
python=$work/venv/bin/python
torch=$(sed -n 's/^ *"\(torch==[^"]*\)",$/\1/p' pyproject.toml)

"$python" -m pip install --quiet ${TORCH_INDEX:+--index-url "$TORCH_INDEX"} "$torch"
"$python" -m pip install --quiet '.[dev]'
"$python" -m pip check
{
    sed -n '/^#/p' constraints.txt
    "$python" -m pip freeze --all --exclude danqing --exclude pip |
        grep -v -i -E '^(nvidia|cuda|triton)' | sed 's/+[a-z0-9.]*$//'
    # what other Pythons than the one that made this list need besides
    sed -n '/;/p' constraints.txt
} >"$work/constraints.txt"
mv "$work/constraints.txt" constraints.txt
