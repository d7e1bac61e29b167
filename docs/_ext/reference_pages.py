"""Pages of the public functions, from their signatures and docstrings."""

from __future__ import annotations

import importlib
import inspect
from typing import Any

from docstrings import inline, markdown, summary

MODULES = {
    "jaxrl_lab": "Train, sweep, run, look back",
    "jaxrl_lab.exact": "Exact answers of small worlds",
    "jaxrl_lab.measures": "What is read off a policy or a run",
    "jaxrl_lab.experiments.statistics": "Intervals, paired differences, seeds",
    "jaxrl_lab.experiments.claims": "Claims and verdicts",
    "jaxrl_envs": "Worlds",
    "jaxrl_envs.testing": "Checks that a world has to pass",
}
HEADER = "<!-- Made from the docstrings by docs/_ext/reference_pages.py. -->"


def pages() -> dict[str, str]:
    """The pages by path below docs/."""
    files = {module: module.replace(".", "_") for module in MODULES}
    toctree = ["```{toctree}", ":hidden:", "", *files.values(), "```"]
    rows = [f"| [`{m}`]({files[m]}.md) | {text} |" for m, text in MODULES.items()]
    head = [HEADER, "", "# Reference", "", "| module | |", "| --- | --- |"]
    index = "\n".join([*head, *rows, "", *toctree, ""])
    found = {f"reference/{files[m]}.md": module_page(m) for m in MODULES}
    return found | {"reference/index.md": index}


def targets() -> dict[str, str]:
    """Labels of the sections by the name of the function or class; ambiguous names are left out."""
    seen: dict[str, list[str]] = {}
    for module in MODULES:
        for name, _ in members(module):
            seen.setdefault(name, []).append(label(module, name))
    return {name: labels[0] for name, labels in seen.items() if len(labels) == 1}


def label(module: str, name: str) -> str:
    kind = "class-" if name[:1].isupper() else ""  # labels do not know upper from lower case
    return f"{kind}{module}.{name}".replace(".", "-").lower()


def members(module: str) -> list[tuple[str, Any]]:
    """Public functions and classes: those of ``__all__``, else those defined there."""
    loaded = importlib.import_module(module)
    names = getattr(loaded, "__all__", None)
    if names is None:
        own = {k: v for k, v in vars(loaded).items() if not k.startswith("_")}
        names = [k for k, v in own.items() if getattr(v, "__module__", "") == module]
    found = [(name, getattr(loaded, name)) for name in names]
    return [(n, v) for n, v in found if inspect.isclass(v) or _is_function(v)]


def module_page(module: str) -> str:
    loaded = importlib.import_module(module)
    doc = markdown(loaded.__doc__, targets())
    lines = [HEADER, "", f"# `{module}`", "", doc]
    for name, thing in members(module):
        lines += [f"({label(module, name)})=", f"## `{name}`", ""]
        lines += ["```python", _signature(name, thing), "```", ""]
        lines += [markdown(thing.__doc__, targets())]
        lines += _methods(thing) if inspect.isclass(thing) else []
    return "\n".join(lines)


def _is_function(thing: Any) -> bool:
    return callable(thing) and inspect.isroutine(inspect.unwrap(thing))


def _methods(cls: type[Any]) -> list[str]:
    """A line per documented public method or property of a class."""
    lines = []
    for name, raw in vars(cls).items():
        function = raw.fget if isinstance(raw, property) else inspect.unwrap(raw)
        if name.startswith("_") or not (inspect.isfunction(function) and function.__doc__):
            continue
        call = f"`.{name}`" if isinstance(raw, property) else f"`.{name}(…)`"
        lines.append(f"- {call}: {inline(summary(function.__doc__), targets())}")
    return [*lines, ""] if lines else []


def _signature(name: str, thing: Any) -> str:
    """The call as it is written in the source, one line where it fits."""
    kind = "class" if inspect.isclass(thing) else "def"
    try:
        signature = inspect.signature(thing)
    except (TypeError, ValueError):
        return f"{kind} {name}"
    parts, starred = [], False
    for parameter in signature.parameters.values():
        starred |= parameter.kind is parameter.VAR_POSITIONAL
        if parameter.kind is parameter.KEYWORD_ONLY and not starred:
            parts.append("*")
            starred = True
        parts.append(_parameter(parameter))
    returns = signature.return_annotation
    arrow = "" if returns in (inspect.Signature.empty, None, "None") else f" -> {returns}"
    line = f"{kind} {name}({', '.join(parts)}){arrow}"
    if len(line) <= 88:
        return line
    return "\n".join([f"{kind} {name}(", *(f"    {part}," for part in parts), f"){arrow}"])


def _parameter(parameter: inspect.Parameter) -> str:
    name = str(parameter.replace(annotation=parameter.empty, default=parameter.empty))  # with stars
    annotation = getattr(parameter.annotation, "__forward_arg__", parameter.annotation)
    typed = "" if annotation is parameter.empty else f": {annotation}"
    given = "" if parameter.default is parameter.empty else f" = {parameter.default!r}"
    return f"{name}{typed}{given}"
