"""Run the Python blocks of the documentation and write what they print under them.

    python scripts/pages.py                    # every page with code; or name some
    python scripts/pages.py --check            # fails where a page shows something else

The blocks of a page share one namespace, from top to bottom. A `text` block right after one is its
output: it is never typed.
"""

from __future__ import annotations

import io
import re
import sys
from contextlib import redirect_stdout
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
DOCS = ROOT / "docs"
BLOCK = re.compile(r"^```python\n(.*?)^```\n(?:\n```text\n.*?^```\n)?", re.M | re.S)


def main(arguments: list[str]) -> int:
    check = "--check" in arguments
    named = [Path(a).resolve() for a in arguments if a != "--check"]
    stale = 0
    for page in named or pages():
        text = page.read_text(encoding="utf-8")
        wanted = rendered(text)
        if wanted != text and check:
            print(f"{page.relative_to(ROOT)} is out of date: run python scripts/pages.py")
        elif wanted != text:
            page.write_text(wanted, encoding="utf-8")
        stale += wanted != text
    return stale if check else 0


def pages() -> list[Path]:
    """The pages whose Python blocks run: the questions, the quick start, how to write things."""
    found = [DOCS / "quickstart.md", *DOCS.glob("write_a_*.md"), *DOCS.glob("questions/*.md")]
    return sorted(p for p in found if BLOCK.search(p.read_text(encoding="utf-8")))


def rendered(text: str) -> str:
    """The page with the output of its blocks as they print it now."""
    space: dict[str, object] = {"__name__": "page"}

    def run(block: re.Match[str]) -> str:
        printed = io.StringIO()
        with redirect_stdout(printed):
            exec(compile(block[1], "page", "exec", dont_inherit=True), space)
        lines = "\n".join(line.rstrip() for line in printed.getvalue().splitlines())
        output = f"\n```text\n{lines}\n```\n" if lines else ""
        return f"```python\n{block[1]}```\n{output}"

    return BLOCK.sub(run, text)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
