"""Docstrings of the package as Markdown: what is code stays code, and nothing else is markup."""

from __future__ import annotations

import inspect
import re
from collections.abc import Mapping

ARXIV = re.compile(r"\b\d{4}\.\d{5}\b")
SECTIONS = ("Args", "Attributes", "Returns", "Raises", "Example", "Examples")
TOKEN = re.compile(
    r":\w+:`~?(?P<role>[^`]+)`"  # :func:`~.weight.ClipCov`
    r"|``(?P<code>[^`]+)``"
    r"|`(?P<single>[^`]+)`"
    r"|(?<![\w*])\*(?P<emphasis>[^\s*][^*]*?[^\s*])\*(?![\w*])"
    r"|(?P<arxiv>(?:arXiv )?\b\d{4}\.\d{5}\b)"
)


def markdown(doc: str | None, targets: Mapping[str, str] | None = None) -> str:
    """A docstring as Markdown.

    Args:
        targets: label of a page's target by the last name of what a role points to.
    """
    blocks = re.split(r"\n\s*\n", inspect.cleandoc(doc or ""))
    return "\n\n".join(_block(b, targets or {}) for b in blocks if b.strip()) + "\n"


def summary(doc: str | None) -> str:
    """The first paragraph of a docstring on one line."""
    return " ".join(inspect.cleandoc(doc or "").split("\n\n")[0].split())


def inline(text: str, targets: Mapping[str, str] | None = None) -> str:
    """Text with its code spans, references and arXiv numbers as Markdown, all else literal."""
    out, at = [], 0
    for found in TOKEN.finditer(text):
        out.append(_literal(text[at : found.start()]))
        out.append(_token(found, targets or {}))
        at = found.end()
    return "".join([*out, _literal(text[at:])])


def arxiv_link(number: str) -> str:
    return f"[arXiv\N{NO-BREAK SPACE}{number}](https://arxiv.org/abs/{number})"


def _token(found: re.Match[str], targets: Mapping[str, str]) -> str:
    if found["arxiv"]:
        return arxiv_link(ARXIV.findall(found["arxiv"])[0])
    if found["emphasis"]:
        return f"*{_literal(found['emphasis'])}*"
    name = found["role"]
    if name is None:
        return f"`{' '.join((found['code'] or found['single']).split())}`"
    last = name.rpartition(".")[2]
    return f"[`{last}`](#{targets[last]})" if last in targets else f"`{last}`"


def _literal(text: str) -> str:
    return re.sub(r"([\\`*_\[\]<>$|~#])", r"\\\1", text)


def _block(block: str, targets: Mapping[str, str]) -> str:
    """One paragraph: a section, a source, an indented equation, a list, or plain text."""
    lines = block.splitlines()
    head = lines[0].strip().removesuffix(":")
    if lines[0].strip().endswith(":") and head in SECTIONS:
        return _sections(lines, targets)
    if all(line.startswith("    ") for line in lines):
        return "```text\n" + inspect.cleandoc("\n" + block) + "\n```"
    # "Raises:" and "Source:" may follow a paragraph without an empty line.
    for i, line in enumerate(lines):
        starts = line.startswith("Source:") or line.strip().removesuffix(":") in SECTIONS
        if i and starts and not line.startswith(" "):
            first, rest = "\n".join(lines[:i]), "\n".join(lines[i:])
            return _block(first, targets) + "\n\n" + _block(rest, targets)
    if lines[0].startswith("Source:"):
        return "*Source:* " + inline(block.removeprefix("Source:").strip(), targets)
    if any(re.match(r"\s*[*-] ", line) for line in lines):
        return _bullets(lines, targets)
    return inline(block, targets)


def _bullets(lines: list[str], targets: Mapping[str, str]) -> str:
    """A list, with the sentence before it where there is one."""
    items: list[str] = []
    lead: list[str] = []
    for line in lines:
        marked = re.match(r"\s*[*-] (.*)", line)
        if marked:
            items.append(marked[1])
        elif items:
            items[-1] += " " + line.strip()
        else:
            lead.append(line)
    before = [inline("\n".join(lead), targets), ""] if lead else []
    return "\n".join([*before, *(f"- {inline(item, targets)}" for item in items)])


def _sections(lines: list[str], targets: Mapping[str, str]) -> str:
    """``Args:`` and its like, each entry a line of a list."""
    out: list[str] = []
    for i, line in enumerate(lines):
        head = line.strip().removesuffix(":")
        if not line.startswith(" ") and head in SECTIONS:
            out += ["", f"**{head}**", ""]
        elif not line.startswith(" "):
            return "\n".join([*out, "", _block("\n".join(lines[i:]), targets)]).strip()
        elif line.startswith("     ") and out[-1]:
            out[-1] += " " + inline(line.strip(), targets)
        else:
            name, colon, text = line.strip().partition(": ")
            plain = re.fullmatch(r"[\w, .]+", name)
            entry = (
                f"`{name}`: {inline(text, targets)}" if colon and plain else inline(line.strip())
            )
            out.append(f"- {entry}")
    return "\n".join(out).strip()
