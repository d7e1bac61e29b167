"""Write locks/pyXYZ.txt and locks/pyXYZ-test.txt for the interpreter that runs this file.

pip resolves the requirements of pyproject.toml in an empty environment and reports what it would
install; the locks keep names and versions only, so they hold for any index and any platform.
The runtime lock is resolved under the test lock, which makes it a subset.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
import tempfile
import tomllib
import venv
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
TEST_EXTRAS = ("test", "notebooks", "docs")


def resolve(python: Path, requirements: list[str], constraints: list[str]) -> list[str]:
    """The sorted `name==version` lines that pip would install for these requirements."""
    with tempfile.TemporaryDirectory() as folder:
        wanted = Path(folder, "requirements.txt")
        bounds = Path(folder, "constraints.txt")
        report = Path(folder, "report.json")
        wanted.write_text("\n".join(requirements) + "\n")
        bounds.write_text("\n".join(constraints) + "\n")
        command = [python, "-m", "pip", "--disable-pip-version-check", "install", "-q"]
        command += ["--dry-run", "--ignore-installed", "--report", report]
        subprocess.run([*command, "-r", wanted, "-c", bounds], check=True)
        found = [item["metadata"] for item in json.loads(report.read_text())["install"]]
    # A local version label ("+cpu") names one index's build; a lock names the release.
    return sorted(
        f"{re.sub(r'[-_.]+', '-', item['name']).lower()}=={item['version'].split('+')[0]}"
        for item in found
    )


def main() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    runtime = project["build-system"]["requires"] + project["project"]["dependencies"]
    extras = project["project"]["optional-dependencies"]
    test = runtime + [line for extra in TEST_EXTRAS for line in extras[extra]]
    tag = "py{}{}".format(*sys.version_info[:2])

    with tempfile.TemporaryDirectory() as folder:
        venv.create(folder, with_pip=True)
        python = Path(folder, "bin", "python")
        test_lock = resolve(python, test, [])
        runtime_lock = resolve(python, runtime, test_lock)

    for name, lines in ((f"{tag}.txt", runtime_lock), (f"{tag}-test.txt", test_lock)):
        (ROOT / "locks" / name).write_text("\n".join(lines) + "\n")
        print(f"locks/{name}: {len(lines)} packages")


if __name__ == "__main__":
    main()
