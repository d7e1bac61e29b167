"""What a run leaves behind: labelled curves, and enough to look at any moment of it again."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxrl_envs import BadInput

from jaxrl_lab.experiments.population import Arm, Measure
from jaxrl_lab.types import Tree

if TYPE_CHECKING:
    import xarray as xr

UNITS: dict[str, tuple[str, str]] = {
    "return": ("reward", "mean true return of the episodes of a batch"),
    "objective": ("1", "value of the surrogate objective, mean over inner steps"),
    "clipped": ("share", "share of tokens whose gradient the surrogate removed"),
    "gradient_norm": ("1", "norm of the gradient, mean over inner steps"),
    "informative_groups": ("share", "share of groups with unequal rewards"),
    "tokens": ("tokens", "generated so far, thrown-away ones included"),
    "stopped": ("update", "update in which the member became non-finite; -1 for never"),
}
"""Unit and description of the variables every run has; measures add their own."""


@dataclass(frozen=True)
class Result:
    """Curves of a population.

    Attributes:
        dataset: dims ``arm, seed, update``; ``update`` counts updates done, from 0. Values of a
            member after it became non-finite are NaN and enter no average.
        arms, updates, seeds, measure: what was run, to run it again.
        params: final parameters by arm, leading axis ``seed``; empty for a result read from disk.
        seconds: of each program, by ``trace``, ``compile`` and ``run``; the programs after the
            first are compiled while others run.
    """

    dataset: xr.Dataset
    arms: dict[str, Arm] = field(default_factory=dict)
    updates: int = 0
    seeds: tuple[int, ...] = ()
    measure: Measure | None = None
    params: dict[str, Tree] = field(default_factory=dict)
    seconds: dict[str, dict[str, float]] = field(default_factory=dict)

    def curve(self, name: str, arm: str) -> np.ndarray:
        """One variable of one arm, ``[seed, update]``.

        Raises:
            BadInput: unknown variable or arm.
        """
        if name not in self.dataset.data_vars:
            raise BadInput(
                "variable", name, "a variable of the result", map(str, self.dataset.data_vars)
            )
        names = [str(a) for a in self.dataset["arm"].values]
        if arm not in names:
            raise BadInput("arm", arm, "an arm of the result", names)
        return np.asarray(self.dataset[name].sel(arm=arm).values)

    def part(self, names: Mapping[str, str]) -> Result:
        """The arms with these names alone, each under a new one."""
        dataset = self.dataset.sel(arm=list(names)).assign_coords(arm=list(names.values()))
        arms = {new: self.arms[old] for old, new in names.items() if old in self.arms}
        params = {new: self.params[old] for old, new in names.items() if old in self.params}
        return replace(self, dataset=dataset, arms=arms, params=params, seconds={})

    @property
    def update(self) -> np.ndarray:
        """Updates done at each point of the curves."""
        return np.asarray(self.dataset["update"].values)

    def frozen(self) -> list[str]:
        """One line for every member that became non-finite: arm, seed, update."""
        stopped = self.dataset["stopped"]
        return [
            f"{arm}, seed {seed}: not finite at update {int(at)}"
            for arm, row in zip(stopped["arm"].values, stopped.values, strict=True)
            for seed, at in zip(stopped["seed"].values, row, strict=True)
            if at >= 0
        ]

    def __str__(self) -> str:
        return str(self.dataset)


def assemble(
    curves: dict[str, dict[str, np.ndarray]],
    stopped: dict[str, np.ndarray],
    seeds: tuple[int, ...],
    every: int,
    describe: dict[str, tuple[str, str]],
) -> xr.Dataset:
    """Curves by arm and name as one dataset; frozen members are blanked from their last update."""
    arms = list(curves)
    names = dict.fromkeys(name for by_name in curves.values() for name in by_name)
    points = len(next(iter(next(iter(curves.values())).values()))[0])
    update = np.arange(points) * every
    blank = {
        arm: (stopped[arm][:, None] >= 0) & (update[None, :] > stopped[arm][:, None])
        for arm in arms
    }
    shape = (len(seeds), points)

    def stack(name: str) -> np.ndarray:
        rows = [np.asarray(curves[a].get(name, np.full(shape, np.nan)), np.float64) for a in arms]
        return np.stack([np.where(blank[a], np.nan, r) for a, r in zip(arms, rows, strict=True)])

    import xarray as xr  # late: with pandas it takes as long to import as jax

    dataset = xr.Dataset(
        {name: (("arm", "seed", "update"), stack(name)) for name in names},
        coords={"arm": arms, "seed": list(seeds), "update": update},
    )
    dataset["stopped"] = (("arm", "seed"), np.stack([stopped[a] for a in arms]))
    for name, (unit, text) in (UNITS | describe).items():
        if name in dataset:
            dataset[name].attrs = {"units": unit, "description": text}
    dataset["update"].attrs = {"units": "updates", "description": "outer updates done"}
    return dataset


def summary(dataset: xr.Dataset, names: list[str], headings: list[str]) -> str:
    """A table of final values, mean over seeds, one row per arm."""
    last: dict[str, Any] = {n: dataset[n].isel(update=-1).mean("seed").values for n in names}
    arms = [str(a) for a in dataset["arm"].values]
    width = max(len(a) for a in arms)
    lines = [" " * width + "".join(f"{h:>14}" for h in headings)]
    for i, arm in enumerate(arms):
        lines.append(f"{arm:<{width}}" + "".join(f"{last[n][i]:>14.3f}" for n in names))
    return "\n".join(lines)
