"""Configuration files are data: reading one executes nothing and forgives nothing.

YAML is read with the safe loader only, duplicate keys and anchors are refused, and every
complaint is one line that names the file.
"""

from __future__ import annotations

import stat
from pathlib import Path
from typing import Any

import yaml
from jaxrl_envs.errors import BadInput

LARGEST = 1_000_000
"""Bytes a configuration file may have; the largest of ours has a few thousand."""

_SCALAR_ERRORS = (ValueError, TypeError, KeyError, AttributeError, OverflowError)
"""What the loader lets through where a scalar is not what its form or its tag promises."""


class _Loader(yaml.SafeLoader):
    """The safe loader, without duplicate keys and without anchors (which can explode)."""

    def compose_node(self, parent: Any, index: Any) -> Any:
        if self.check_event(yaml.AliasEvent):
            event = self.peek_event()
            raise yaml.MarkedYAMLError(None, None, "anchors are not allowed", event.start_mark)
        return super().compose_node(parent, index)

    def construct_mapping(self, node: Any, deep: bool = False) -> dict[Any, Any]:
        seen = set()
        for key_node, _ in node.value:
            key = self.construct_object(key_node, deep=True)
            if not isinstance(key, str):
                raise yaml.MarkedYAMLError(
                    None, None, f"key {key!r} is not text", key_node.start_mark
                )
            if key in seen:
                raise yaml.MarkedYAMLError(
                    None, None, f"key {key!r} appears twice", key_node.start_mark
                )
            seen.add(key)
        return super().construct_mapping(node, deep)


class _Dumper(yaml.SafeDumper):
    """The safe dumper, without the anchors that the loader refuses."""

    def ignore_aliases(self, data: Any) -> bool:
        return True


def folder() -> Path:
    """Where the package's configuration files are: installed beside it, or in its repository."""
    package = Path(__file__).parent
    installed = package / "configs"
    return installed if installed.is_dir() else package.parent / "configs"


def phenomena() -> list[str]:
    """Names of the phenomena: each has its configuration file."""
    return sorted(path.stem for path in folder().glob("*.yaml"))


def is_path(what: str | Path) -> bool:
    """Whether ``what`` is a path to a YAML file and not the name of a phenomenon."""
    text = str(what)
    return isinstance(what, Path) or "/" in text or text.endswith((".yaml", ".yml"))


def unknown_phenomenon(name: str) -> BadInput:
    """The complaint about a name that no phenomenon has."""
    return BadInput("phenomenon", name, "a phenomenon, or a path to a .yaml file", phenomena())


def read_yaml(path: Path) -> dict[str, Any]:
    """The mapping in a YAML file.

    Raises:
        BadInput: no such file, too large, not text, not YAML, or not a mapping.
    """
    try:
        found = path.stat()
        if not stat.S_ISREG(found.st_mode):  # a pipe or a device may never end
            kind = "directory" if stat.S_ISDIR(found.st_mode) else "not a file"
            raise BadInput("config", str(path), f"a readable YAML file ({kind})")
        if found.st_size > LARGEST:
            size = f"{found.st_size} bytes"
            raise BadInput(str(path), size, f"a file of at most {LARGEST} bytes")
        return parse_yaml(path.read_text(encoding="utf-8"), str(path))
    except BadInput:
        raise
    except (OSError, ValueError) as error:  # a path with a null byte is a ValueError
        reason = error.strerror if isinstance(error, OSError) else "not UTF-8 text"
        raise BadInput("config", str(path), f"a readable YAML file ({reason})") from None


def parse_yaml(text: str, where: str) -> dict[str, Any]:
    """The mapping in a YAML text; ``where`` names its origin in complaints."""
    try:
        data = yaml.load(text, _Loader)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        line = f" at line {mark.line + 1}" if mark else ""
        problem = getattr(error, "problem", None) or "unreadable"
        raise BadInput(where, f"{problem}{line}", "valid YAML") from None
    except RecursionError:
        raise BadInput(where, "nested too deeply", "valid YAML") from None
    except _SCALAR_ERRORS as error:  # `2020-99-99`, `0x_`, `!!bool foo`, `!!map x`, …
        raise BadInput(where, f"{type(error).__name__}: {error}", "valid YAML") from None
    if not isinstance(data, dict):
        raise BadInput(where, data, "a mapping of keys to values")
    return data


def parse_value(text: str) -> Any:
    """A value typed on the command line, read as YAML (``0.3``, ``[1, 2]``, ``grpo``)."""
    try:
        return yaml.load(text, _Loader)
    except (yaml.YAMLError, RecursionError, *_SCALAR_ERRORS):
        return text


def parse_values(text: str) -> list[Any]:
    """Values typed on the command line, separated by commas: ``0.2,0.4``, ``grpo,rloo``.

    Commas within brackets belong to a value: ``[32],[32,32]`` are two. A text that is not YAML is
    one value.
    """
    values = parse_value(f"[{text}]")
    return values if isinstance(values, list) else [text]


def dump_yaml(data: Any) -> str:
    """YAML in the order given, short lists on one line."""
    text: str = yaml.dump(
        data, Dumper=_Dumper, sort_keys=False, default_flow_style=None, allow_unicode=True
    )
    return text
