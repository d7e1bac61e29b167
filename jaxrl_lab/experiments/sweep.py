"""Sweeps: a study crossed with a grid: ``run --set`` at every point, in as few programs as can be.

The grid stands in the study as its box, and its tier ends in ``sweep``, so that the configuration
of a sweep is the configuration it varies and what it varies, nothing more. :func:`expand` makes of
it what runs: every experiment with the arms of all points. An arm that an axis does not reach is
trained once for all values of that axis.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import reduce
from itertools import product
from math import prod
from typing import Any

from jaxrl_envs.errors import BadInput, expect

from jaxrl_lab.experiments.box import Box, Level
from jaxrl_lab.experiments.labels import short_paths, value_label
from jaxrl_lab.experiments.spec import (
    SIZES,
    Experiment,
    Settings,
    Study,
    effective,
)

MARK = "sweep"
MOST_POINTS = 10_000
FIRST_SEED = 9000
"""Seeds of a sweep: others than those of the claims, on which its best point can be confirmed."""


@dataclass(frozen=True)
class Sweep:
    """What a sweep runs, and how its points are found again in it.

    Attributes:
        study: every experiment with the arms of all points.
        axes: the paths that are varied.
        points: a label per point, such as ``group=4, high=0.2``.
        members: per point, for each experiment: its name in ``study``, and its arms there by the
            name they have without the sweep.
    """

    study: Study
    axes: tuple[str, ...]
    points: tuple[str, ...]
    members: tuple[dict[str, tuple[str, dict[str, str]]], ...]

    @property
    def places(self) -> dict[str, str]:
        """Experiments of ``study``, and which one of the study without the sweep each is."""
        return {place: name for one in self.members for name, (place, _) in one.items()}


def with_grid(study: Study, axes: Mapping[str, Sequence[Any]], seeds: int) -> Study:
    """The study as a sweep over every combination of the given values.

    Args:
        axes: values by dotted path, as ``run --set`` takes it.
        seeds: of every point; their first one is :data:`FIRST_SEED`.

    Raises:
        BadInput: no axis, no values, a value given twice, or more points than anyone reads.
    """
    expect(not is_sweep(study), "sweep", study.tier, "a study that is not a sweep already")
    expect(len(axes) > 0, "sweep", {}, "at least one setting to sweep over")
    expect(seeds >= 1, "seeds", seeds, "at least 1")
    for path in axes:
        if path.rpartition(".")[2] in ("seeds", "first_seed"):
            raise BadInput(path, list(axes[path]), "a setting; --seeds says how many seeds")
    box = Box({p: _levels(p, values) for p, values in axes.items()}, {}, seeds, FIRST_SEED)
    points = prod(box.shape)
    expect(points <= MOST_POINTS, "sweep", f"{points} points", f"at most {MOST_POINTS} points")
    return replace(study, tier=f"{study.tier} {MARK}", box=box)


def is_sweep(study: Study) -> bool:
    """Whether the study is run over the grid that its box holds."""
    return study.tier.endswith(f" {MARK}") and study.box is not None


def expand(study: Study) -> Sweep:
    """The arms of all points of a sweep, experiment by experiment.

    Raises:
        BadInput: a path that is no setting of the study, or a value of the wrong type.
    """
    box: Box = study.box  # type: ignore[assignment]  # is_sweep has been asked
    short = short_paths(box.axes)
    cells = [_changed(study, changes) for changes in box.cells()]
    choices = [
        {axis: f"{short[axis]}={level}" for axis, level in zip(box.axes, levels, strict=True)}
        for levels in product(*box.axes.values())
    ]
    experiments: dict[str, Experiment] = {}
    members: list[dict[str, tuple[str, dict[str, str]]]] = [{} for _ in cells]
    for name in study.experiments:
        reaching = _reaching(study, name)
        lengths = {_length(cell.experiments[name]) for cell in cells}
        for cell, choice, found in zip(cells, choices, members, strict=True):
            inner = cell.experiments[name]
            place = name if len(lengths) == 1 else f"{name}@{_length(inner)}"
            names = {
                _arm_name(arm, reaching[arm], choice, len(inner.arms)): arm for arm in inner.arms
            }
            found[name] = (place, names)
            arms = {new: effective(inner.settings, inner.arms[old]) for new, old in names.items()}
            so_far = experiments.get(place, replace(inner, settings={}, arms={}))
            experiments[place] = replace(so_far, arms=so_far.arms | arms)
    points = tuple(", ".join(choice.values()) for choice in choices)
    trained = replace(study, experiments=experiments, box=None)
    return Sweep(trained, tuple(box.axes), points, tuple(members))


def _levels(path: str, values: Sequence[Any]) -> dict[str, Level]:
    if not isinstance(values, list | tuple) or not values:
        raise BadInput(path, values, "a list of at least one value to sweep over")
    levels: dict[str, Level] = {value_label(value): {path: value} for value in values}
    expect(len(levels) == len(values), path, list(values), "values that differ")
    return levels


def _changed(study: Study, changes: Level) -> Study:
    return reduce(lambda s, change: s.with_setting(*change), changes.items(), study)


def _reaching(study: Study, name: str) -> dict[str, list[str]]:
    """The axes that make a difference to each arm of an experiment."""
    reaching: dict[str, list[str]] = {arm: [] for arm in study.experiments[name].arms}
    for axis, levels in study.box.axes.items():  # type: ignore[union-attr]
        versions = [_changed(study, level).experiments[name] for level in levels.values()]
        for arm, axes in reaching.items():
            first, *others = ((_length(e), effective(e.settings, e.arms[arm])) for e in versions)
            if any(other != first for other in others):
                axes.append(axis)
    return reaching


def _length(experiment: Experiment) -> str:
    return f"{experiment.updates}x{experiment.measure_every}"


def _arm_name(arm: str, axes: Sequence[str], choice: Mapping[str, str], arms: int) -> str:
    point = ", ".join(choice[axis] for axis in axes)
    if not point:
        return arm
    return f"{arm}: {point}" if arms > 1 else point


def differences(study: Study, reference: Study) -> Settings:
    """What a study sets otherwise than another, by the dotted paths that would set it.

    An entry that only the other has is None. Experiments that only one of them has are left out.
    """
    found: Settings = {}
    for name in study.experiments.keys() & reference.experiments.keys():
        mine, other = study.experiments[name], reference.experiments[name]
        pairs: dict[str, tuple[Mapping[str, Any], Mapping[str, Any]]] = {
            "": ({s: getattr(mine, s) for s in SIZES}, {s: getattr(other, s) for s in SIZES}),
            "settings": (mine.settings, other.settings),
            "arms": (mine.arms, other.arms),
        }
        for where, (new, old) in pairs.items():
            middle = "arms." if where == "arms" else ""
            for key in dict.fromkeys([*new, *old]):
                if new.get(key) != old.get(key):
                    found[f"{name}.{middle}{key}"] = new.get(key)
    return dict(sorted(found.items()))
