"""Execute and check the notebooks; each is a pair of a `.py` (percent format) and an `.ipynb`.

python scripts/notebooks.py execute [PATH ...]   run in place and store the outputs
python scripts/notebooks.py check   [PATH ...]   run copies, and fail on anything a reader would hit

Both run a copy of the notebooks folder, so that what a notebook writes never lands in the tree.
"""

from __future__ import annotations

import argparse
import os
import re
import shutil
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import jupytext
import nbformat
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError, CellTimeoutError

ROOT = Path(__file__).resolve().parents[1]
NOTEBOOKS = ROOT / "notebooks"
FORMATS = "ipynb,py:percent"
METADATA = {
    "jupytext": {"formats": FORMATS},
    "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
    "language_info": {"file_extension": ".py", "mimetype": "text/x-python", "name": "python"},
}


def stems(paths: list[Path]) -> list[Path]:
    """The notebooks asked for, without their suffix; every one under notebooks/ by default."""
    if not paths:
        paths = [p for p in NOTEBOOKS.rglob("*.ipynb") if ".ipynb_checkpoints" not in p.parts]
        paths += [p for p in NOTEBOOKS.rglob("*.py") if p.read_text().startswith("# ---\n# jupy")]
    return sorted({path.resolve().with_suffix("") for path in paths})


def sources(notebook: Any) -> list[tuple[str, str]]:
    return [(cell.cell_type, cell.source.strip()) for cell in notebook.cells]


def read_pair(stem: Path) -> tuple[Any | None, Any | None]:
    """The text half and the stored half of a notebook; None where a half is missing."""
    text, stored = stem.with_suffix(".py"), stem.with_suffix(".ipynb")
    return (
        jupytext.read(text, fmt="py:percent") if text.exists() else None,
        nbformat.read(stored, as_version=4) if stored.exists() else None,
    )


def run(notebook: Any, stem: Path, limit: float | None) -> float:
    """Execute every cell, top to bottom, in a copy of the notebooks folder; returns seconds."""
    start = time.perf_counter()

    def remaining(cell: Any) -> float | None:
        return None if limit is None else max(1.0, limit - (time.perf_counter() - start))

    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder, "notebooks")
        shutil.copytree(NOTEBOOKS, copy, ignore=shutil.ignore_patterns(".ipynb_checkpoints"))
        inside = stem.is_relative_to(NOTEBOOKS)
        cwd = copy / stem.relative_to(NOTEBOOKS).parent if inside else copy
        client = NotebookClient(
            notebook,
            kernel_name="python3",
            timeout_func=remaining,
            record_timing=False,
            coalesce_streams=True,
            resources={"metadata": {"path": str(cwd)}},
            extra_arguments=["--log-level=50"],
        )
        client.execute()
        scrub(notebook, [folder])
    return time.perf_counter() - start


def scrub(notebook: Any, folders: list[str]) -> None:
    """Remove from the outputs what belongs to this machine: its folders and temporary files."""

    def clean(text: str) -> str:
        text = re.sub(r"[^\s\"']*/ipykernel_\d+/\d+\.py", "<cell>", text)
        for folder in [*folders, str(ROOT)]:
            text = text.replace(f"{folder}/", "")
        return text.replace(str(Path.home()), "~")

    for cell in notebook.cells:
        cell.metadata.pop("execution", None)
        for output in cell.get("outputs", []):
            if "text" in output:
                output["text"] = clean(output["text"])
            if "traceback" in output:
                output["traceback"] = [clean(line) for line in output["traceback"]]
            for kind, value in output.get("data", {}).items():
                if kind.startswith("text/") and isinstance(value, str):
                    output["data"][kind] = clean(value)


def execute(stem: Path) -> list[str]:
    text, stored = read_pair(stem)
    if text is not None and stored is not None and sources(text) != sources(stored):
        newer = max((".py", ".ipynb"), key=lambda suffix: stem.with_suffix(suffix).stat().st_mtime)
        print(f"{stem.name}: the halves differ; taking the newer, {newer}")
        notebook = text if newer == ".py" else stored
    else:
        notebook = text if text is not None else stored
    if notebook is None:
        return ["there is no such notebook"]
    for number, cell in enumerate(notebook.cells):
        cell["id"] = f"cell-{number:03d}"
    notebook.nbformat, notebook.nbformat_minor = 4, 5
    notebook.metadata = nbformat.from_dict(METADATA)
    try:
        seconds = run(notebook, stem, None)
    except (CellExecutionError, RuntimeError) as error:
        return [f"it does not run, and is left as it was:\n{error}"]
    notebook.metadata = nbformat.from_dict(METADATA)
    nbformat.write(notebook, stem.with_suffix(".ipynb"))
    text_half = nbformat.from_dict(notebook)
    # The percent file keeps the pairing and the kernel, and no tool's version number.
    text_half.metadata["jupytext"] = {"formats": FORMATS, "notebook_metadata_filter": "-all"}
    text_half.metadata.pop("language_info", None)
    stem.with_suffix(".py").write_text(percent(text_half))
    print(f"{stem.relative_to(ROOT)}: executed in {seconds:.1f} s")
    return []


HEADER = """\
# ---
# jupyter:
#   jupytext:
#     formats: ipynb,py:percent
#     text_representation:
#       extension: .py
#       format_name: percent
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

"""


def percent(notebook: Any) -> str:
    body = jupytext.writes(notebook, fmt="py:percent")
    body = re.sub(r"\A# ---\n.*?^# ---\n+", "", body, flags=re.DOTALL | re.MULTILINE)
    return HEADER + body


def check(stem: Path, limit: float) -> list[str]:
    text, stored = read_pair(stem)
    if text is None or stored is None:
        return [f"its {'.py' if text is None else '.ipynb'} half is missing"]
    faults = []
    if sources(text) != sources(stored):
        faults.append("its .py and .ipynb halves have different sources")
    code = [cell for cell in stored.cells if cell.cell_type == "code" and cell.source.strip()]
    outputs = [output for cell in code for output in cell.outputs]
    if not outputs:
        faults.append("its .ipynb stores no outputs")
    if [cell.execution_count for cell in code] != list(range(1, len(code) + 1)):
        faults.append("its stored outputs are not of one run from top to bottom")
    for cell in code:
        meant = "raises-exception" in cell.metadata.get("tags", [])
        if not meant and any(output.output_type == "error" for output in cell.outputs):
            faults.append("its stored outputs hold an error")
    if any(str(folder) in nbformat.writes(stored) for folder in (ROOT, Path.home())):
        faults.append("its .ipynb names a folder of the machine that ran it")
    try:
        seconds = run(text, stem, limit)
    except CellTimeoutError:
        return [*faults, f"it takes more than {limit:.0f} s"]
    except (CellExecutionError, RuntimeError) as error:  # the latter: the kernel died
        return [*faults, f"it does not run:\n{error}"]
    if seconds > limit:
        faults.append(f"it takes more than {limit:.0f} s")
    print(f"{stem.relative_to(ROOT)}: {seconds:.1f} s", flush=True)
    return faults


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("command", choices=("execute", "check"))
    parser.add_argument("paths", nargs="*", type=Path, help="notebooks (default: all of them)")
    parser.add_argument("--limit", type=float, default=120.0, help="seconds each, for check")
    arguments = parser.parse_args()

    # Stored numbers must not depend on which accelerator happened to be at hand.
    os.environ.setdefault("JAX_PLATFORMS", "cpu")
    chosen = stems(arguments.paths)
    failed = 0
    for stem in chosen:
        faults = execute(stem) if arguments.command == "execute" else check(stem, arguments.limit)
        for fault in faults:
            print(f"{stem}: {fault}", file=sys.stderr)
        failed += bool(faults)
    print(f"{len(chosen)} notebooks, {failed} failed")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
