#!/usr/bin/env bash
# Print an interpreter that really runs, for one of the versions given (default: any supported one).
#   scripts/python.sh             python3 when it is 3.11, 3.12 or 3.13, else the newest of those
#   scripts/python.sh 3.13        a Python 3.13
# A name on PATH proves nothing (a version manager's shim may have no interpreter behind it), so each
# candidate is run before it is believed. Exit status 1, and no output, when there is none.
set -euo pipefail

versions=("$@")
[ $# -gt 0 ] || versions=(3.13 3.12 3.11)

runs_as_one_of() {
    "$1" - "${versions[@]}" <<'PY' 2>/dev/null
import sys

sys.exit("%d.%d" % sys.version_info[:2] not in sys.argv[1:])
PY
}

candidates=(python3)
for version in "${versions[@]}"; do
    candidates+=("python$version")
    if command -v pyenv >/dev/null 2>&1; then
        for path in "$(pyenv root)"/versions/"$version".*/bin/"python$version"; do
            if [ -x "$path" ]; then candidates+=("$path"); fi
        done
    fi
done

for candidate in "${candidates[@]}"; do
    if command -v "$candidate" >/dev/null 2>&1 && runs_as_one_of "$candidate"; then
        echo "$candidate"
        exit 0
    fi
done
exit 1
