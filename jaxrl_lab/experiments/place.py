"""Where the unfinished part of a run stands, and what can be read there before jax is imported."""

from __future__ import annotations

import json
from pathlib import Path

from jaxrl_envs import BadInput

from jaxrl_lab import config

MANIFEST = "manifest.json"
"""Its configuration, the versions it runs under, and their digest."""
SUFFIX = ".unfinished"


def place_of(folder: Path) -> Path:
    """Where the unfinished part of a run directory stands."""
    return folder.with_name(folder.name + SUFFIX)


def tier_of(folder: Path) -> str:
    """The tier of the unfinished run of a folder; empty where its manifest cannot be read."""
    try:
        manifest = json.loads((place_of(folder) / MANIFEST).read_text(encoding="utf-8"))
        return str(config.parse_yaml(manifest["config"], MANIFEST)["tier"])
    except (OSError, ValueError, KeyError, TypeError, RecursionError, BadInput):
        return ""
