"""What an atlas takes from run directories, which run it takes, and what it refuses."""

from __future__ import annotations

import json
import os
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from atlas_runs import report, verdict, write_run
from jaxrl_envs import BadInput

from jaxrl_lab import atlas, config

DOCS = Path(__file__).resolve().parents[2] / "docs"
ONE = [verdict("it_learns")]


def test_without_sources_it_is_of_the_published_verdicts() -> None:
    cards = {card.name: card for card in atlas.collect([])}
    assert set(cards) == {p.stem for p in (DOCS / "verdicts").glob("*.json")}
    for name, card in cards.items():
        said = json.loads((DOCS / "verdicts" / f"{name}.json").read_text(encoding="utf-8"))
        assert [v.claim for v in card.said.verdicts] == [v["claim"] for v in said["verdicts"]]
        assert card.figure == (DOCS / "figures" / f"{name}.png").read_bytes()
        assert card.source == config.read_yaml(config.folder() / f"{name}.yaml")["source"]
        assert card.command == f"jaxrl-lab run {name} --verdict"
        assert set(card.shares) == set(said["claims"])


def test_a_share_is_that_of_the_cells_beyond_the_effect(tmp_path: Path) -> None:
    axes = {"recipe.group": {"4": {"recipe.group": 4}, "8": {"recipe.group": 8}}}
    box = {"seeds": 4, "first_seed": 0, "settings": {}, "axes": axes}
    estimate = {"up": [0.3, 0.2], "down": [-0.1, None]}
    verdicts = [verdict("up", effect=0.25), verdict("down", effect=0.0, direction="less")]
    said = report("x", verdicts, box={"box": box, "estimate": estimate})
    (card,) = atlas.collect([write_run(tmp_path / "run", said)])
    assert dict(card.shares) == {"up": 0.5, "down": 1.0}
    assert card.cells == 2


def test_the_command_runs_the_same_again(tmp_path: Path) -> None:
    changed = {"recipe.group": 8, "recipe": "my recipe; rm -rf", "x": [{"sgd": {"rate": 0.1}}]}
    said = report("x", ONE, changed=changed, tier="quick")
    (card,) = atlas.collect([write_run(tmp_path / "run", said)])
    words = shlex.split(card.command)
    assert words[:4] == ["jaxrl-lab", "run", "x", "--quick"]
    settings = dict(word.split("=", 1) for word in words[5::2])
    assert words[4::2] == ["--set"] * 3
    assert {k: config.parse_value(v) for k, v in settings.items()} == changed


def test_of_several_runs_the_most_telling_is_shown(tmp_path: Path) -> None:
    runs = {
        "a": report("x", ONE, tier="verdict", changed={"recipe.group": 8}),
        "b": report("x", ONE, tier="quick"),
        "c": report("x", ONE, tier="default", seconds=1.0),
        "d": report("x", ONE, tier="default", seconds=2.0),
        "other": report("y", ONE),
    }
    for age, (name, said) in enumerate(runs.items()):
        folder = write_run(tmp_path / "runs" / said["phenomenon"] / name, said)
        os.utime(folder / "verdicts.json", (age, age))
    cards = atlas.collect([tmp_path / "runs", tmp_path / "runs" / "x" / "d"])
    assert [(card.name, card.others) for card in cards] == [("x", 3), ("y", 0)]
    assert cards[0].said.seconds == 2.0
    (only,) = atlas.collect([tmp_path / "runs" / "x" / "a"])
    assert only.said.tier == "verdict"


def test_what_is_unfinished_is_not_shown(tmp_path: Path) -> None:
    write_run(tmp_path / "runs" / "x" / "done", report("x", ONE))
    cut = tmp_path / "runs" / "x" / "cut.unfinished"
    cut.mkdir()
    (cut / "manifest.json").write_text("{}")
    assert [card.others for card in atlas.collect([tmp_path / "runs"])] == [0]
    with pytest.raises(BadInput, match=r"cut\.unfinished"):
        atlas.collect([cut])


def test_sweeps_and_runs_without_claims_are_left_out(tmp_path: Path) -> None:
    write_run(tmp_path / "runs" / "x", report("x", ONE))
    write_run(tmp_path / "runs" / "sweep", report("x", ONE, tier="default sweep"))
    write_run(tmp_path / "runs" / "mine", report(" without claims", []))
    assert [(card.name, card.others) for card in atlas.collect([tmp_path / "runs"])] == [("x", 0)]


# ------------------------------------------------------------------ refusals


def changed_json(**values: Any) -> Any:
    def damage(run: Path) -> None:
        said = json.loads((run / "verdicts.json").read_text(encoding="utf-8"))
        (run / "verdicts.json").write_text(json.dumps(said | values), encoding="utf-8")

    return damage


def text(name: str, content: str) -> Any:
    return lambda run: (run / name).write_text(content, encoding="utf-8")


DAMAGES = {
    "no verdicts": (lambda run: (run / "verdicts.json").unlink(), "a run with verdicts"),
    "no configuration": (lambda run: (run / "config.yaml").unlink(), "config.yaml"),
    "no figure": (lambda run: (run / "figure.png").unlink(), "jaxrl-lab plot"),
    "a figure that is none": (text("figure.png", "<svg onload=alert(1)>"), "figure.png"),
    "truncated": (text("verdicts.json", '{"phenomenon": "x"'), "readable JSON"),
    "nested deeply": (text("verdicts.json", "[" * 100_000), "readable JSON"),
    "not UTF-8": (lambda run: (run / "verdicts.json").write_bytes(b"\xff\xfe{"), "readable JSON"),
    "NaN": (text("verdicts.json", '{"phenomenon": NaN}'), "NaN"),
    "a list": (text("verdicts.json", "[]"), "verdicts.json"),
    "no claims": (changed_json(claims=None), "claims"),
    "a number as text": (changed_json(seconds="soon"), "seconds"),
    "an unknown outcome": (changed_json(verdicts=[verdict("it_learns", "proven")]), "outcome"),
    "an unknown claim": (changed_json(verdicts=[verdict("it_learnt")]), "nearest valid name"),
    "a sweep": (changed_json(tier="default sweep"), "with verdicts"),
    "nothing claimed": (changed_json(verdicts=[], claims={}), "with verdicts"),
    "a box of others": (changed_json(box={"box": {}, "estimate": {}}), "a box"),
    "another phenomenon": (changed_json(phenomenon="y"), "verdicts of x"),
    "a tag in the YAML": (text("config.yaml", "phenomenon: !!python/name:os.system x"), "YAML"),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_run_is_refused_in_one_line(tmp_path: Path, damage: str) -> None:
    run = write_run(tmp_path / "runs" / "one", report("x", ONE))
    do, expected = DAMAGES[damage]
    do(run)
    with pytest.raises(BadInput, match=expected) as told:
        atlas.build([run], tmp_path / "atlas.html")
    assert len(str(told.value).splitlines()) == 1
    assert "runs/one" in str(told.value), "it says where"
    assert not (tmp_path / "atlas.html").exists()


@pytest.mark.parametrize("place", ["missing", "empty", "empty/deep", "file", "nul\0", "n" * 5000])
def test_a_folder_without_runs_is_refused(tmp_path: Path, place: str) -> None:
    (tmp_path / "empty" / "deep" / "verdicts").mkdir(parents=True)
    (tmp_path / "file").write_text("hello")
    with pytest.raises(BadInput, match="DIR"):
        atlas.collect([tmp_path / place])


def test_a_huge_file_is_not_read(tmp_path: Path) -> None:
    run = write_run(tmp_path / "run", report("x", ONE))
    with (run / "figure.png").open("r+b") as stream:
        stream.truncate(1 << 40)  # sparse: takes no space
    with pytest.raises(BadInput, match="at most"):
        atlas.collect([run])


def test_only_an_atlas_is_written_over(tmp_path: Path) -> None:
    run = write_run(tmp_path / "run", report("x", ONE))
    page = atlas.build([run], tmp_path / "deep" / "atlas.html")
    first = page.read_bytes()
    assert atlas.build([run], page).read_bytes() == first
    assert [p.name for p in page.parent.iterdir()] == ["atlas.html"]
    (tmp_path / "thesis.html").write_text("<!doctype html>My thesis")
    for place in (tmp_path / "thesis.html", tmp_path, tmp_path / "thesis.html" / "x", "nul\0"):
        with pytest.raises(BadInput, match="out"):
            atlas.build([run], place)
    assert (tmp_path / "thesis.html").read_text().endswith("thesis")


def test_it_needs_no_jax(tmp_path: Path) -> None:
    run = write_run(tmp_path / "run", report("x", ONE))
    code = (
        "import sys; import jaxrl_lab.atlas.command; early = set(sys.modules)\n"
        f"import jaxrl_lab; jaxrl_lab.atlas.build([{str(run)!r}], {str(tmp_path / 'a.html')!r})\n"
        "print(sorted({'numpy', 'scipy', 'pydantic', 'jax'} & early), 'jax' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[] False"
