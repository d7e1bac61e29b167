"""The page as text: nothing of a run directory becomes markup, and nothing is loaded."""

from __future__ import annotations

import base64
import hashlib
import re
import xml.etree.ElementTree as ET
from html.parser import HTMLParser
from pathlib import Path

import pytest
from atlas_runs import report, verdict, write_run

from jaxrl_lab import atlas
from jaxrl_lab.atlas.cards import Decided
from jaxrl_lab.atlas.interval import MARGIN, WIDTH, bar, draw, number

BAD = "</script><script>alert(1)</script><img src=x onerror=alert(2)>\"' onload=alert(3) ${x} $y"


class Tags(HTMLParser):
    """Every tag with its attributes, and all text outside style and script."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.text += data

    def named(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.tags if name == tag]


@pytest.fixture(scope="module")
def published() -> str:
    return atlas.render(atlas.collect([]))


@pytest.fixture(scope="module")
def hostile(tmp_path_factory: pytest.TempPathFactory) -> str:
    said = report(
        BAD,
        [verdict(BAD, unit=BAD, note=BAD)],
        question=BAD + "\ud800",
        claims={BAD: BAD},
        changed={"recipe": BAD},
        versions={"jax": BAD, "python": BAD, "device": BAD, "cores": BAD},
        claims_hash=BAD,
    )
    folder = tmp_path_factory.mktemp("hostile")
    run = write_run(folder / "run", said, source=f"arXiv 2605.19461 {BAD}")
    return atlas.build([run], folder / "atlas.html").read_text(encoding="utf-8")


def test_hostile_texts_stay_texts(hostile: str, published: str) -> None:
    found, ours = Tags(hostile), Tags(published)
    assert {tag for tag, _ in found.tags} <= {tag for tag, _ in ours.tags}
    assert len(found.named("script")) == 1
    assert {a for _, attributes in found.tags for a in attributes if a.startswith("on")} == set()
    assert len(found.named("img")) == 2, "the figure, and the place where it is enlarged"
    assert found.text.count("alert(1)") >= 10, "shown as text, wherever a text is shown"
    assert found.text.count("${x}") == found.text.count("alert(3)")


def test_nothing_is_loaded_and_no_foreign_script_may_run(published: str, hostile: str) -> None:
    for page in (published, hostile):
        found = Tags(page)
        assert found.named("link") == []
        sources = [a["src"] or "" for _, a in found.tags if "src" in a]
        assert all(source.startswith("data:image/png;base64,") for source in sources)
        goals = [a["href"] or "" for a in found.named("a")]
        assert all(goal.startswith(("#", "https://arxiv.org/abs/")) for goal in goals)
        (policy,) = (a["content"] or "" for a in found.named("meta") if "http-equiv" in a)
        for tag in ("style", "script"):
            (inside,) = re.findall(f"<{tag}>(.*?)</{tag}>", page, re.DOTALL)
            digest = base64.b64encode(hashlib.sha256(inside.encode()).digest()).decode()
            assert f"{tag}-src 'sha256-{digest}'" in policy
        assert policy.startswith("default-src 'none'; img-src data:;")
        assert not [a for _, a in found.tags if "style" in a], "the policy forbids them"


def test_everything_a_card_has_to_say_is_there(tmp_path: Path) -> None:
    verdicts = [verdict("first", missing=2), verdict("second", "refuted", note="why it is so")]
    said = report("small_thing", verdicts, seconds=720.0, tier="verdict")
    (card,) = atlas.collect([write_run(tmp_path / "run", said, "arXiv 2503.14476, 2509.25849")])
    found = Tags(atlas.render([card]))
    told = " ".join(found.text.split())
    for part in (
        "small_thing", "What of small_thing?", "Text of first.", "Text of second.",
        "0.4 [0.3, 0.5] modes, claimed > 0.25", "8 seeds (2 missing)", "why it is so", "12 min",
        "jaxrl-lab run small_thing --verdict", "2 cores (cpu: abacus)", "jax 1.2.3",
        "1 phenomenon, 2 claims: 1 reproduced, 1 refuted", "0123456789abcdef",
    ):  # fmt: skip
        assert part in told, part
    links = [a["href"] for a in found.named("a") if "arxiv" in (a["href"] or "")]
    assert links == [f"https://arxiv.org/abs/{n}" for n in ("2503.14476", "2509.25849")]


def test_changed_settings_are_said(tmp_path: Path) -> None:
    run = write_run(tmp_path / "run", report("x", [verdict("a")], changed={"recipe.group": 3}))
    page = atlas.render(atlas.collect([run]))
    assert "Not the settings the claims are about: recipe.group = 3." in page


def lines(verdict: Decided) -> dict[str, dict[str, str]]:
    """The parts of a drawing by class."""
    return {part.get("class", ""): part.attrib for part in ET.fromstring(draw(verdict))}


def test_a_drawing_is_to_scale() -> None:
    drawn = lines(Decided("a", "reproduced", "greater", 1.0, estimate=3.0, low=2.0, high=4.0))
    unit = (WIDTH - 2 * MARGIN) / 4  # from zero to the end of the interval
    at = {x: pytest.approx(MARGIN + x * unit, abs=0.06) for x in range(5)}
    assert float(drawn["zero"]["x1"]) == at[0]
    assert float(drawn["effect"]["x1"]) == at[1]
    assert float(drawn["span"]["x1"]) == at[2]
    assert float(drawn["mean"]["cx"]) == at[3]
    assert float(drawn["span"]["x2"]) == at[4]
    assert float(drawn["claimed"]["x"]) == at[1]
    assert float(drawn["claimed"]["x"]) + float(drawn["claimed"]["width"]) == WIDTH


def test_a_claimed_fall_is_shaded_to_the_left_and_an_open_end_reaches_the_edge() -> None:
    drawn = lines(Decided("a", "inconclusive", "less", -1.0, estimate=-2.0, low=None, high=0.0))
    assert float(drawn["claimed"]["x"]) == 0.0
    assert float(drawn["claimed"]["width"]) == float(drawn["effect"]["x1"])
    assert float(drawn["span"]["x1"]) == 0.0
    assert draw(Decided("a", "inconclusive", "less", 0.0)) == "", "no seed arrived"
    assert lines(Decided("a", "refuted", "less", 0.0, estimate=0.0, low=0.0, high=0.0))


def test_numbers_and_bars() -> None:
    assert [number(x) for x in (None, -0.00164, 12345.0)] == ["—", "−0.00164", "1.23e+04"]
    parts = list(ET.fromstring(bar({"reproduced": 1, "refuted": 3, "inconclusive": 0})))
    assert [float(p.get("x", "")) for p in parts] == [0.0, 0.25, 1.0]
    assert [float(p.get("width", "")) for p in parts] == [0.25, 0.75, 0.0]
    assert bar({"reproduced": 0}), "a run without claims"
