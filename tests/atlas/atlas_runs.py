"""Run directories made by hand, so that an atlas has known contents."""

from __future__ import annotations

import json
import struct
import zlib
from pathlib import Path
from typing import Any

import yaml

MAGENTA = (255, 0, 255)


def verdict(claim: str, outcome: str = "reproduced", **other: Any) -> dict[str, Any]:
    numbers = {"estimate": 0.4, "low": 0.3, "high": 0.5, "effect": 0.25, "direction": "greater"}
    return {"claim": claim, "outcome": outcome, "n": 8, "unit": "modes"} | numbers | other


def report(name: str, verdicts: list[dict[str, Any]], **other: Any) -> dict[str, Any]:
    said = {
        "phenomenon": name,
        "question": f"What of {name}?",
        "tier": "default",
        "changed": {},
        "claims_hash": "0123456789abcdef",
        "claims": {v["claim"]: f"Text of {v['claim']}." for v in verdicts},
        "verdicts": verdicts,
        "box": None,
        "seconds": 10.0,
        "versions": {"jax": "1.2.3", "device": "cpu: abacus", "cores": "2"},
        "something new": [1, 2],
    }
    return said | other


def write_run(folder: Path, said: dict[str, Any], source: str = "arXiv 2605.19461") -> Path:
    """A run directory with a magenta figure."""
    folder.mkdir(parents=True)
    study = {"phenomenon": said["phenomenon"], "source": source, "changed": said["changed"]}
    (folder / "config.yaml").write_text(yaml.safe_dump(study), encoding="utf-8")
    (folder / "verdicts.json").write_text(json.dumps(said), encoding="utf-8")
    (folder / "figure.png").write_bytes(png(60, 40, MAGENTA))
    return folder


def png(width: int, height: int, color: tuple[int, int, int]) -> bytes:
    """An image of one color."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        body = kind + data
        return struct.pack(">I", len(data)) + body + struct.pack(">I", zlib.crc32(body))

    rows = (b"\0" + bytes(color) * width) * height
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    parts = (chunk(b"IHDR", header), chunk(b"IDAT", zlib.compress(rows)), chunk(b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(parts)
