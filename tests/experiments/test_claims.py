"""Verdicts: the decision rule, its error rates, and what is said when nothing can be decided."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jaxrl_envs import BadInput
from scipy import stats

from jaxrl_lab.experiments.claims import Claim, Verdict, claims_hash, decide, holm_levels
from jaxrl_lab.experiments.statistics import holm

NAN = math.nan


def claim(id: str = "a", direction: Any = "greater", effect: float = 0.0) -> Claim:
    return Claim(id, f"{id} moves", "change", direction, effect, "nats", "tabular, K ≤ 50")


def normal(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=shape)


def centered(n: int, mean: float = 0.0, spread: float = 1.0) -> np.ndarray:
    """A sample with this mean and standard deviation, to rounding."""
    x = normal(n)
    return mean + spread * (x - x.mean()) / x.std(ddof=1)


def one(x: Any, direction: str = "greater", effect: float = 0.0, **options: Any) -> Verdict:
    return decide([claim("a", direction, effect)], {"a": x}, **options)[0]


def test_the_hash_knows_every_word_but_not_the_order() -> None:
    claims = [claim("a"), claim("b", "less", -0.1)]
    first = claims_hash(claims)
    assert claims_hash(claims[::-1]) == first
    other = {"id": "c", "text": "x", "metric": "x", "unit": "x", "region": "x"}
    changes: list[dict[str, Any]] = [{k: v} for k, v in other.items()]
    changes += [{"direction": "less"}, {"effect": 1e-9}]
    hashes = {claims_hash([dataclasses.replace(claims[0], **c), claims[1]]) for c in changes}
    assert len(hashes | {first}) == 1 + len(dataclasses.fields(Claim))


def test_the_hash_by_hand() -> None:
    text = (
        '[{"direction":"greater","effect":0.5,"id":"a","metric":"change","region":"tabular, '
        'K \\u2264 50","text":"a moves","unit":"nats"}]'
    )
    assert claims_hash([claim(effect=0.5)]) == hashlib.sha256(text.encode()).hexdigest()[:16]
    assert claims_hash([claim(effect=1)]) == claims_hash([claim(effect=1.0)])
    assert claims_hash([claim(effect=-0.0)]) == claims_hash([claim(effect=0.0)])


def test_claims_refuse_what_cannot_be_tested() -> None:
    with pytest.raises(BadInput, match="nearest valid name: greater"):
        claim(direction="grater")
    with pytest.raises(BadInput, match="effect = nan"):
        claim(effect=NAN)
    with pytest.raises(BadInput, match="id"):
        claim("")
    for use in (claims_hash, lambda c: decide(c, {"a": [1.0]})):
        with pytest.raises(BadInput, match="a different id"):
            use([claim("a"), claim("a")])


@pytest.mark.parametrize(
    ("mean", "direction", "effect", "outcome"),
    [
        (0.5, "greater", 0.1, "reproduced"),
        (0.5, "less", 0.1, "refuted"),
        (-0.5, "less", -0.1, "reproduced"),
        (-0.5, "greater", -0.1, "refuted"),
        (0.0, "less", -0.4, "refuted"),  # no fall at all is short of a fall by 0.4
        (0.5, "greater", 0.9, "refuted"),  # there, but smaller than claimed
        (0.5, "greater", 0.4, "inconclusive"),
        (0.5, "less", 0.6, "inconclusive"),
    ],
)
def test_outcomes(mean: float, direction: str, effect: float, outcome: str) -> None:
    x = centered(100, mean)  # standard error 0.1: the 95 % interval is the mean ± 0.198
    found = one(x, direction, effect)
    assert found.outcome == outcome
    interval = stats.ttest_1samp(x, effect).confidence_interval(0.95)
    assert (found.low, found.high) == pytest.approx((interval.low, interval.high))
    assert found.p_holm == pytest.approx(stats.ttest_1samp(x, effect).pvalue)
    assert found.level == pytest.approx(0.95)
    assert (found.needed is None) == (outcome != "inconclusive") == (found.note == "")


def test_a_family_by_hand() -> None:
    # With 100 seeds and s = 1, t is ten times the mean: two-sided p (99 degrees of freedom) .0061,
    # .0141, .0392, .0482. Times 4, 3, 2, 1: .0246, .0422, .0784, .0482; running maximum .0246,
    # .0422, .0784, .0784. Two are decided, at the steps α/4 and α/3; the others, though .0482 alone
    # would be, share the step α/2 at which the procedure stopped.
    means = {"a": 0.2, "b": 0.28, "c": -0.25, "d": 0.209}
    found = decide([claim(k) for k in means], {k: centered(100, m) for k, m in means.items()})
    assert [v.claim for v in found] == list(means)
    # An exact noncentral t at 97.5 % asks for 241 seeds at 0.2 s (199 at 95 %), 221 at 0.209 s.
    assert [v.needed for v in found] == [241, None, None, 221]
    assert " ".join(v.outcome for v in found) == "inconclusive reproduced refuted inconclusive"
    assert [v.p_holm for v in found] == pytest.approx([0.0784, 0.0246, 0.0422, 0.0784], abs=1e-4)
    assert [v.level for v in found] == pytest.approx(1 - 0.05 / np.array([2, 4, 3, 2]))
    assert one(centered(100, 0.2)).outcome == "reproduced"


errors_away = st.one_of(st.floats(-4.5, 4.5), st.sampled_from([0.0, 2.0, 3.0]))
directions = st.sampled_from(["greater", "less"])
effects, spreads = st.sampled_from([0.0, -0.1, 7.0]), st.sampled_from([0.0, 1e-9, 1.0, 100.0])
families = st.lists(st.tuples(errors_away, directions, effects, spreads), min_size=1, max_size=6)


def build(family: list[Any]) -> tuple[list[Claim], dict[str, np.ndarray]]:
    claims = [claim(f"c{i}", d, e) for i, (_, d, e, _) in enumerate(family)]
    drawn = [centered(16, e + s * t / 4, s) if s else np.full(16, e + t) for t, _, e, s in family]
    return claims, dict(zip([c.id for c in claims], drawn, strict=True))


@given(families, st.sampled_from([0.8, 0.95, 0.99]))
@settings(max_examples=150, deadline=None)
def test_interval_test_and_decision_agree(family: list[Any], level: float) -> None:
    """An interval clears the effect exactly where the claim is decided, and on the right side."""
    claims, samples = build(family)
    found = decide(claims, samples, level, min_seeds=16)
    p = [
        float(np.all(samples[c.id] == c.effect))
        if np.ptp(samples[c.id]) == 0
        else stats.ttest_1samp(samples[c.id], c.effect).pvalue
        for c in claims
    ]
    assert [v.p_holm for v in found] == pytest.approx(holm(p), rel=1e-6)
    for c, v, p_holm in zip(claims, found, holm(p), strict=True):
        assert (v.outcome != "inconclusive") == (p_holm < 1 - level)
        beyond = v.low > c.effect if c.direction == "greater" else v.high < c.effect
        short = v.high < c.effect if c.direction == "greater" else v.low > c.effect
        expected = "reproduced" if beyond else "refuted" if short else "inconclusive"
        assert v.outcome == expected
        assert v.low <= v.estimate <= v.high
        assert level - 1e-12 <= v.level <= 1 - (1 - level) / len(family) + 1e-12


def test_interval_and_decision_agree_where_rounding_decides() -> None:
    """Each bound of the interval, taken as the effect, makes p = 0.05 but for rounding."""
    for x in normal(100, 64):
        plain = one(x)
        for effect, outcome in ((plain.low, "reproduced"), (plain.high, "refuted")):
            found = one(x, effect=effect)
            decided = not found.low <= effect <= found.high
            assert decided == (found.p_holm < 1 - 0.95) == (found.outcome == outcome)


@given(families)
@settings(max_examples=50, deadline=None)
def test_order_and_sign_do_not_matter(family: list[Any]) -> None:
    claims, samples = build(family)
    found = decide(claims, samples, min_seeds=16)
    assert decide(claims[::-1], samples, min_seeds=16)[::-1] == found
    flip = {"greater": "less", "less": "greater"}
    mirrored = [claim(c.id, flip[c.direction], -c.effect) for c in claims]
    negated = decide(mirrored, {k: -x for k, x in samples.items()}, min_seeds=16)
    assert [v.outcome for v in negated] == [v.outcome for v in found]


def test_holm_levels_by_hand() -> None:
    # .001 < .05/4 is rejected, and .02 ≥ .05/3 stops the procedure, though .022 < .05/2.
    steps = 1 - 0.05 / np.array([3, 4, 3, 3])
    assert holm_levels([0.02, 0.001, 0.022, 0.9]) == pytest.approx(steps)
    assert holm_levels([0.001, 0.001]) == pytest.approx([0.975, 0.975])  # tied: the stricter step
    assert holm_levels([0.04, 0.001]) == pytest.approx([0.95, 0.975])
    assert holm_levels([]).size == 0


@pytest.mark.parametrize("distances", [[0.0, 0.0, 0.0, 0.0], [3.0, -3.0, 0.0, 0.0]])
def test_false_decisions_in_a_family(distances: list[float]) -> None:
    """Claims exactly at their smallest effect are decided in 5 % of families at most.

    Independent ones use nearly all of that: 1 - (1 - α/4)^4 = 4.9 % for four (18.5 % without the
    correction), and as much for two beside two large effects, where Bonferroni would give 2.5 %.
    """
    trials, claims = 1500, [claim(k, "greater", 0.3) for k in "abcd"]
    draws = 0.3 + normal(trials, 4, 24, seed=4) + np.array(distances)[:, None]
    right = {3.0: "reproduced", -3.0: "refuted", 0.0: "inconclusive"}
    wrong = 0
    for family in draws:
        found = decide(claims, dict(zip("abcd", family, strict=True)), min_seeds=24)
        false = [v for v, d in zip(found, distances, strict=True) if v.outcome != right[d]]
        assert all(v.claim in "abcd"[distances.index(0.0) :] for v in false)  # no large one missed
        wrong += bool(false)
    assert wrong / trials == pytest.approx(0.049, abs=3 * math.sqrt(0.05 * 0.95 / trials))


def test_the_number_of_seeds_asked_for_decides() -> None:
    pilot = one(centered(64, 0.2), effect=0.0)
    assert pilot.needed == 199  # the tabulated size for a distance of 0.2 s at power 0.8
    assert "about 199 seeds would decide" in pilot.note
    crashing = one(np.concatenate([centered(80, 0.2), np.full(20, NAN)]))
    assert crashing.needed == math.ceil(199 / 0.8)  # so that 199 arrive
    again = 0.2 + normal(2000, pilot.needed, seed=6)
    power = np.mean([one(x).outcome == "reproduced" for x in again])
    assert power == pytest.approx(0.8, abs=4 * math.sqrt(0.8 * 0.2 / 2000))


@pytest.mark.parametrize(("value", "outcome"), [(0.3, "reproduced"), (-0.1, "refuted")])
def test_a_constant_sample_is_compared(value: float, outcome: str) -> None:
    found = one(np.full(64, value), effect=0.1)
    assert (found.outcome, found.p_holm) == (outcome, 0.0)
    assert found.low == found.estimate == found.high == value
    nearly = np.append(found.estimate + np.zeros(63), np.nextafter(value, 1))
    assert one(nearly, effect=0.1).outcome == outcome
    assert one(np.append(np.zeros(63), 1e-310), effect=0.1 - value).outcome != "inconclusive"


def test_a_constant_sample_at_the_effect_is_undecided() -> None:
    found = one(np.full(64, 0.1), effect=0.1)  # the mean of 64 times 0.1, summed, is not 0.1
    assert (found.outcome, found.p_holm, found.needed) == ("inconclusive", 1.0, None)
    assert "no number of seeds would decide" in found.note


def test_too_few_seeds_are_not_tested() -> None:
    found = one(centered(63, 9.0))
    assert (found.outcome, found.p_holm, found.needed) == ("inconclusive", 1.0, 64)
    assert found.note == "63 seeds, 64 needed"
    assert found.low > 0  # what there is, is shown
    assert one(centered(64, 9.0)).outcome == "reproduced"


def test_missing_seeds_are_counted_and_bounded() -> None:
    x = centered(100, 9.0)
    x[:20] = [math.inf, -math.inf] + 18 * [NAN]
    found = one(x)
    assert (found.outcome, found.n, found.missing) == ("reproduced", 80, 20)
    assert found.estimate == pytest.approx(x[20:].mean())
    x[20] = NAN
    found = one(x)
    assert (found.outcome, found.n, found.missing) == ("inconclusive", 79, 21)
    assert found.note == "79 of 100 seeds arrived, a share of 0.8 needed"
    assert one(x, min_arrived=0.79).outcome == "reproduced"


@pytest.mark.parametrize("arrived", [0, 1])
def test_hardly_any_seed_arrived(arrived: int) -> None:
    x = np.full(64, NAN)
    x[:arrived] = 3.0
    for share in (0.8, 0.0):
        found = one(x, min_arrived=share)
        assert (found.outcome, found.n, found.p_holm) == ("inconclusive", arrived, 1.0)
        assert (found.low, found.high) == (-math.inf, math.inf)
        assert f"{arrived} of 64 seeds arrived" in found.note


def test_an_untested_claim_still_counts_in_the_family() -> None:
    """Otherwise a run that crashes would make the remaining claims easier to reproduce."""
    x = centered(100, 0.21)  # p = .038: enough alone, not for one of two
    assert one(x).outcome == "reproduced"
    found = decide([claim("a"), claim("b")], {"a": x, "b": np.full(100, NAN)})
    assert {v.outcome for v in found} == {"inconclusive"}
    assert found[0].p_holm == pytest.approx(2 * one(x).p_holm)


def test_a_claim_without_a_sample_is_a_mistake() -> None:
    with pytest.raises(KeyError):
        decide([claim("a")], {"b": [1.0]})
    assert decide([], {}) == []


@pytest.mark.parametrize(("key", "value"), [("level", 1.0), ("min_seeds", 1), ("min_arrived", 80)])
def test_bad_options_are_named(key: str, value: float) -> None:
    with pytest.raises(BadInput, match=f"^{key} = {value}"):
        one([1.0], **{key: value})
    with pytest.raises(BadInput, match=r"^samples\.a"):
        one([[value]])


def test_the_line_says_it_all() -> None:
    x = np.append(centered(63, -0.5, 0.1), NAN)
    assert one(x, "less", -0.1).line() == (
        "reproduced   a: -0.5 [-0.5252, -0.4748] nats, claimed < -0.1; "
        "63 seeds (1 missing), 95 % interval, Holm p = 4.7e-40"
    )
    assert one([1.0, 2.0, 3.0]).line() == (
        "inconclusive a: 2 [-0.4841, 4.484] nats, claimed > 0; "
        "3 seeds, 95 % interval, Holm p = 1; 3 seeds, 64 needed"
    )


def test_verdicts_are_strict_json() -> None:
    found = one(np.full(64, NAN)).as_dict()
    assert (stored := json.loads(json.dumps(found, allow_nan=False))) == found
    assert (stored["estimate"], stored["low"], stored["high"]) == (None, None, None)
    assert (stored["claim"], stored["outcome"], stored["missing"]) == ("a", "inconclusive", 64)
    assert Verdict(**(whole := one(centered(64, 9.0))).as_dict()) == whole
