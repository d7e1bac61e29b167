"""Claims stated before a run, and the verdicts that its seeds support.

How a verdict is reached. Each claim names a metric, a direction and the smallest effect of interest
e. Over the n seeds that arrived, H: mean = e is tested with a two-sided one-sample t test,
t = (mean - e) / (s / √n); the p values of all m claims of the phenomenon are adjusted by Holm's
procedure; where the adjusted p is below α = 1 - level the sign of t decides: beyond e in the
claimed direction is ``reproduced``, short of it is ``refuted``. All else is ``inconclusive``.

The printed interval agrees with the decision because it is taken at the level of the step at which
Holm decided (:func:`holm_levels`): it excludes e exactly where the claim is decided. Each interval
covers at its own level; what is controlled over the family is the chance that any claim whose mean
is exactly e is decided (at most α), not the simultaneous coverage of the intervals.

A claim that cannot be tested (too few seeds, too many missing) still counts in m, with p = 1: how
strict the others are must not depend on what happened to arrive.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from jaxrl_envs.errors import BadInput, expect
from numpy.typing import ArrayLike
from scipy import special

from jaxrl_lab.experiments.statistics import (
    Floats,
    holm,
    mean_and_error,
    mean_interval,
    seeds_needed,
)

Direction = Literal["greater", "less"]
Outcome = Literal["reproduced", "refuted", "inconclusive"]


@dataclass(frozen=True)
class Claim:
    """What a phenomenon asserts, stated before it runs.

    Attributes:
        id: short name, unique within the phenomenon.
        text: the assertion as a sentence.
        metric: the number per seed that it is about.
        direction: whether the mean of the metric is claimed to lie above or below ``effect``.
        effect: smallest effect of interest, signed and in the metric's own unit: a claimed fall of
            at least 0.1 is ``direction="less", effect=-0.1``.
        unit: unit of the metric.
        region: the settings for which the claim is meant.
    """

    id: str
    text: str
    metric: str
    direction: Direction
    effect: float
    unit: str
    region: str

    def __post_init__(self) -> None:
        expect(bool(self.id), "id", self.id, "a name")
        directions = ("greater", "less")
        if self.direction not in directions:
            raise BadInput("direction", self.direction, "'greater' or 'less'", directions)
        expect(math.isfinite(self.effect), "effect", self.effect, "a finite number")
        # 1 and 1.0, or 0.0 and -0.0, are one claim and must have one hash.
        object.__setattr__(self, "effect", float(self.effect) + 0.0)


@dataclass(frozen=True)
class Verdict:
    """What the seeds say about a claim.

    Attributes:
        claim: id of the claim.
        outcome: ``reproduced``, ``refuted`` or ``inconclusive``.
        estimate: mean over the seeds that arrived; NaN without any.
        low: lower bound of the interval at ``level``.
        high: upper bound.
        n: seeds that arrived.
        missing: seeds that did not: NaN or infinite.
        p_holm: Holm-adjusted p value of mean = ``effect``; 1 where no test was made.
        needed: seeds to start, all told, for a decision; None where decided or where no number
            would do. A planning number from this run's mean and spread, at 80 % power.
        note: why an inconclusive claim is so; empty otherwise.
        level: level of the interval, that of the Holm step which decided.
        direction: of the claim.
        effect: of the claim.
        unit: of the metric.
    """

    claim: str
    outcome: Outcome
    estimate: float
    low: float
    high: float
    n: int
    missing: int
    p_holm: float
    needed: int | None
    note: str
    level: float
    direction: Direction
    effect: float
    unit: str

    def line(self) -> str:
        """The verdict on one line of a terminal."""
        than = ">" if self.direction == "greater" else "<"
        seeds = f"{self.n} seeds" + (f" ({self.missing} missing)" if self.missing else "")
        unit = f" {self.unit}" if self.unit else ""
        note = f"; {self.note}" if self.note else ""
        return (
            f"{self.outcome:<12} {self.claim}: {self.estimate:.4g} "
            f"[{self.low:.4g}, {self.high:.4g}]{unit}, claimed {than} {self.effect:.4g}; "
            f"{seeds}, {100 * self.level:.4g} % interval, Holm p = {self.p_holm:.2g}{note}"
        )

    def as_dict(self) -> dict[str, Any]:
        """The fields as strict JSON has them: what is not a finite number is None."""
        fields = dataclasses.asdict(self)
        unreal = {k for k, v in fields.items() if isinstance(v, float) and not math.isfinite(v)}
        return {k: None if k in unreal else v for k, v in fields.items()}


def tally(outcomes: Sequence[str]) -> str:
    """How often each outcome occurs among some: ``"3 reproduced, 6 refuted"``."""
    counts = {o: outcomes.count(o) for o in ("reproduced", "refuted", "inconclusive")}
    return ", ".join(f"{n} {o}" for o, n in counts.items() if n)


def claims_hash(claims: Sequence[Claim]) -> str:
    """Sixteen hex digits of the SHA-256 of the claims, as canonical JSON sorted by id.

    Stored with the verdicts, it shows that the claims were not changed after the run. The order in
    which they are listed does not matter; every word of them does.
    """
    _check_unique(claims)
    listed = [dataclasses.asdict(claim) for claim in sorted(claims, key=lambda c: c.id)]
    text = json.dumps(listed, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(text.encode("ascii")).hexdigest()[:16]


def holm_levels(p_values: ArrayLike, level: float = 0.95) -> Floats:
    """The level of the step at which Holm decided each test: 1 - α / (m - k), α = 1 - level.

    k counts the tests with a smaller p value, but at most the number r of rejections. So a rejected
    test shows the step at which it was rejected, and all tests from the first failure on share the
    step at which the procedure stopped. An interval at this level excludes the null exactly where
    Holm rejects: a rejected p_(k) is below α / (m - k); p_(r), the first failure, is not below
    α / (m - r), and those after it are no smaller.
    """
    adjusted, p = holm(p_values), np.asarray(p_values, dtype=np.float64)
    rejections = np.count_nonzero(adjusted < 1 - level)
    smaller = np.searchsorted(np.sort(p), p, side="left")
    return np.asarray(1 - (1 - level) / (p.size - np.minimum(smaller, rejections)))


def decide(
    claims: Sequence[Claim],
    samples: Mapping[str, ArrayLike],
    level: float = 0.95,
    min_seeds: int = 64,
    min_arrived: float = 0.8,
) -> list[Verdict]:
    """A verdict per claim, in the order of the claims; the module's docstring says how.

    A sample without spread is decided by comparing its value with the effect: p is 0, or 1 where
    they are equal.

    Args:
        claims: all claims of one phenomenon: the family that Holm's correction covers.
        samples: per claim id the metric of each seed that was started, ``[S]``; NaN or infinite
            for a seed that never arrived.
        level: of the family: decided where the adjusted p is below ``1 - level``.
        min_seeds: seeds to start before anything is decided.
        min_arrived: share of them that must arrive, since those that do not are rarely a random
            subset.

    Raises:
        BadInput: claims with the same id, a sample that is no vector, or an option out of range.
        KeyError: a claim without a sample.
    """
    _check_unique(claims)
    expect(0 < level < 1, "level", level, "a number between 0 and 1")
    expect(min_seeds >= 2, "min_seeds", min_seeds, "at least 2, to know the spread")
    expect(0 <= min_arrived <= 1, "min_arrived", min_arrived, "a share from 0 to 1")
    seeds = {c.id: np.asarray(samples[c.id], dtype=np.float64) for c in claims}
    for name, x in seeds.items():
        expect(x.ndim == 1, f"samples.{name}", x.shape, "an array of shape [seeds]")
    notes = {name: _untestable(x, min_seeds, min_arrived) for name, x in seeds.items()}
    tests = [(0, 1.0) if notes[c.id] else _t_test(seeds[c.id], c.effect) for c in claims]
    p = np.array([p for _, p in tests])
    verdicts = []
    for claim, (side, _), p_holm, at in zip(
        claims, tests, holm(p), holm_levels(p, level), strict=True
    ):
        x = seeds[claim.id]
        arrived = x[np.isfinite(x)]
        decided = side if p_holm < 1 - level else 0
        estimate, low, high = _interval(arrived, float(at))
        note, needed = notes[claim.id], None
        if note:
            needed = min_seeds if x.size < min_seeds else None
        else:
            low, high = _agree(low, high, claim.effect, decided)
            if not decided:
                needed = _needed(arrived, estimate - claim.effect, float(at), x.size)
                many = "no number of" if needed is None else f"about {needed}"
                note = f"the interval covers the smallest effect; {many} seeds would decide"
        verdicts.append(
            Verdict(
                claim=claim.id,
                outcome=_outcome(claim.direction, decided),
                estimate=estimate,
                low=low,
                high=high,
                n=arrived.size,
                missing=x.size - arrived.size,
                p_holm=float(p_holm),
                needed=needed,
                note=note,
                level=float(at),
                direction=claim.direction,
                effect=claim.effect,
                unit=claim.unit,
            )
        )
    return verdicts


def _check_unique(claims: Sequence[Claim]) -> None:
    ids = [claim.id for claim in claims]
    expect(len(set(ids)) == len(ids), "claims", ids, "a different id for each claim")


def _untestable(x: Floats, min_seeds: int, min_arrived: float) -> str:
    """Why no test is made; empty where one is."""
    n = int(np.isfinite(x).sum())
    reasons = []
    if x.size < min_seeds:
        reasons.append(f"{x.size} seeds, {min_seeds} needed")
    if n / max(x.size, 1) < min_arrived:
        reasons.append(f"{n} of {x.size} seeds arrived, a share of {min_arrived:.4g} needed")
    elif x.size >= min_seeds and n < 2:
        reasons.append(f"{n} of {x.size} seeds arrived, 2 needed")
    return "; ".join(reasons)


def _t_test(x: Floats, effect: float) -> tuple[int, float]:
    """Side of the effect where the mean lies (-1, 0, 1), and the two-sided p of mean = effect."""
    mean, error, n = mean_and_error(x)
    side = int(np.sign(mean - effect))
    if error == 0:
        return side, float(side == 0)
    with np.errstate(over="ignore"):  # an infinite t is right where the spread is nearly zero
        t = abs(mean - effect) / error
    return side, float(2 * special.stdtr(n - 1, -t))


def _outcome(direction: Direction, decided: int) -> Outcome:
    if decided == 0:
        return "inconclusive"
    return "reproduced" if (decided > 0) == (direction == "greater") else "refuted"


def _interval(arrived: Floats, level: float) -> tuple[float, float, float]:
    if not arrived.size:
        return math.nan, -math.inf, math.inf
    found = mean_interval(arrived, level)
    return found.mean, found.low, found.high


def _agree(low: float, high: float, effect: float, decided: int) -> tuple[float, float]:
    """Interval and test are one computation but for rounding: at a tie the test has the word."""
    if decided > 0:
        return max(low, math.nextafter(effect, math.inf)), high
    if decided < 0:
        return low, min(high, math.nextafter(effect, -math.inf))
    return min(low, effect), max(high, effect)


def _needed(arrived: Floats, distance: float, level: float, started: int) -> int | None:
    """Seeds to start so that, with the same share arriving, the distance would be found."""
    found = seeds_needed(arrived, distance, level)
    return None if found is None else math.ceil(found * started / arrived.size)
