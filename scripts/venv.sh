#!/usr/bin/env bash
# Bring a virtual environment up to date with the locks, and do nothing when it already is.
#   scripts/venv.sh VENV runtime|test [PYTHON]
#
# VENV/.locked-runtime and VENV/.locked-test say which lock was installed to the end; they are
# written last, so an interrupted install is never mistaken for a finished one. A changed lock,
# interpreter or folder rebuilds the environment; a changed pyproject.toml only reinstalls the
# project itself.
set -euo pipefail

venv=$1 level=$2 python=${3:-}
here=$(dirname "$0")

if [ -z "$python" ]; then
    if [ -f "$venv/.locked-runtime" ] && "$venv/bin/python" -c '' 2>/dev/null; then
        python=$venv/bin/python
    elif ! python=$("$here/python.sh"); then
        echo "No Python 3.11, 3.12 or 3.13 was found; name one: make PYTHON=/path/to/python3.12" >&2
        exit 1
    fi
fi
if ! version=$("$python" -c 'import sys; print("%d.%d.%d" % sys.version_info[:3])' 2>/dev/null); then
    echo "PYTHON=$python does not run" >&2
    exit 1
fi
tag=py$(echo "$version" | cut -d. -f1,2 | tr -d .)
runtime_lock=locks/$tag.txt
test_lock=locks/$tag-test.txt
if [ ! -f "$runtime_lock" ] || [ ! -f "$test_lock" ]; then
    echo "Python $version is not supported: there is no $runtime_lock" >&2
    exit 1
fi

key_of() { echo "$version $PWD $(cksum <"$1")"; }
says() { [ -f "$1" ] && [ "$(cat "$1")" = "$2" ]; }
runtime_key=$(key_of "$runtime_lock")
test_key=$(key_of "$test_lock")
project_key=$(cksum <pyproject.toml)

if [ "$level" = test ]; then
    lock=$test_lock key=$test_key stamp=$venv/.locked-test
else
    lock=$runtime_lock key=$runtime_key stamp=$venv/.locked-runtime
fi
if says "$stamp" "$key" && says "$venv/.project" "$project_key"; then exit 0; fi

pip() { "$venv/bin/python" -m pip --disable-pip-version-check "$@"; }

if ! says "$stamp" "$key"; then
    # A finished runtime environment only needs the test packages on top; any other starts anew.
    if [ -f "$venv/.locked-test" ] || ! says "$venv/.locked-runtime" "$runtime_key"; then
        # A base interpreter outlives the environment that is about to be removed.
        python=$("$python" -c 'import os, sys; print(getattr(sys, "_base_executable", None) or sys.executable)')
        echo "Creating $venv with Python $version"
        rm -rf "$venv"
        "$python" -m venv "$venv"
    fi
    # Until the new stamp is written this environment counts as unfinished.
    rm -f "$venv/.locked-runtime" "$venv/.locked-test" "$venv/.project"
    echo "Installing $lock ($(grep -c == "$lock") packages)"
    # --no-compile: Python compiles what it imports, when it imports it; most of it never is.
    pip install -q --no-compile -r "$lock"
    # Where Python is told to keep no bytecode it would compile jax anew at every start, so what is
    # always imported is compiled here, once.
    if [ -n "${PYTHONDONTWRITEBYTECODE:-}" ]; then
        modules="jax, flax.nnx, optax, scipy.stats, xarray, h5netcdf, matplotlib.pyplot, pydantic"
        if [ "$level" = test ]; then modules+=", pytest, hypothesis, nbclient, jupytext"; fi
        PYTHONDONTWRITEBYTECODE='' "$venv/bin/python" -c "import $modules"
    fi
fi

# hatchling comes from the lock, so building the project fetches nothing.
pip install -q --no-deps --no-build-isolation -e .
pip check >/dev/null || pip check
echo "$project_key" >"$venv/.project"
if [ "$level" = test ]; then echo "$test_key" >"$venv/.locked-test"; fi
echo "$runtime_key" >"$venv/.locked-runtime"
