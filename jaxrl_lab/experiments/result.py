"""What a run leaves behind: labelled curves, and enough to look at any moment of it again."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import jax
import numpy as np
from jaxrl_envs import BadInput
from jaxrl_envs.errors import expect
from jaxtyping import Array

from jaxrl_lab.experiments.members import Measure
from jaxrl_lab.experiments.noise import SHARED, Noise
from jaxrl_lab.experiments.policy_view import PolicyView
from jaxrl_lab.experiments.population import Arm
from jaxrl_lab.experiments.retrain import moment
from jaxrl_lab.experiments.statistics import Difference, difference
from jaxrl_lab.types import Tree

if TYPE_CHECKING:
    import xarray as xr

Description = tuple[str, str] | tuple[str, str, tuple[str, ...]]
"""Unit and text of a measure, and the names of its dimensions where it is an array."""

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
        dataset: dims ``arm, seed, update``, and further named ones where a measure is an array;
            ``update`` counts updates done, from 0. Values of a member after it became non-finite
            are NaN and enter no average.
        arms, updates, seeds, measure: what was run, to run it again.
        params: final parameters by arm, leading axis ``seed``; only of arms whose parameters were
            stored, where the result is read from disk.
        seconds: of each program, by ``trace``, ``compile`` and ``run``; the programs after the
            first are compiled while others run.
        noise: where it came from, and whether arms of one seed shared it.
    """

    dataset: xr.Dataset
    arms: dict[str, Arm] = field(default_factory=dict)
    updates: int = 0
    seeds: tuple[int, ...] = ()
    measure: Measure | None = None
    params: dict[str, Tree] = field(default_factory=dict)
    seconds: dict[str, dict[str, float]] = field(default_factory=dict)
    noise: Noise = SHARED

    @property
    def names(self) -> list[str]:
        """The arms, in the order of the dataset."""
        return [str(a) for a in self.dataset["arm"].values]

    def curve(self, name: str, arm: str) -> np.ndarray:
        """One variable of one arm, ``[seed, update]`` and further dimensions where it has some.

        Raises:
            BadInput: unknown variable or arm.
        """
        if name not in self.dataset.data_vars:
            raise BadInput(
                "variable", name, "a variable of the result", map(str, self.dataset.data_vars)
            )
        if arm not in self.names:
            raise BadInput("arm", arm, "an arm of the result", self.names)
        return np.asarray(self.dataset[name].sel(arm=arm).values)

    def difference(
        self, name: str, arm: str, other: str, update: int | None = None, level: float = 0.95
    ) -> Difference:
        """A variable of one arm minus the same of another, paired beside unpaired.

        Args:
            update: after so many updates; the last measured point unless given.

        Raises:
            BadInput: unknown variable or arm, an update that was not measured, or a seed of
                either arm that became non-finite.
        """
        measured = [int(u) for u in self.update]
        at = measured[-1] if update is None else update
        expect(at in measured, "update", at, f"one of {measured[:3]} … {measured[-1]}")
        i = measured.index(at)
        first, second = (self.curve(name, a)[:, i] for a in (arm, other))
        return difference(first, second, level)

    def part(self, names: Mapping[str, str]) -> Result:
        """The arms with these names alone, each under a new one."""
        dataset = self.dataset.sel(arm=list(names)).assign_coords(arm=list(names.values()))
        arms = {new: self.arms[old] for old, new in names.items() if old in self.arms}
        params = {new: self.params[old] for old, new in names.items() if old in self.params}
        return replace(self, dataset=dataset, arms=arms, params=params, seconds={})

    def member(self, arm: str, seed: int) -> Arm:
        """The arm as it was built, once it is sure that the run had this member.

        Raises:
            BadInput: unknown arm or seed, or a dataset alone, without what was run.
        """
        if arm not in self.arms:
            raise BadInput("arm", arm, "an arm that this result can train again", self.arms)
        if seed not in self.seeds:
            known = f"a seed of the result ({self.seeds[0]} … {self.seeds[-1]})"
            raise BadInput("seed", seed, known)
        return self.arms[arm]

    def key(self, arm: str, seed: int) -> Array:
        """The key that all of a member's noise comes from."""
        return self.noise.key(arm, seed)

    def policy(self, arm: str, seed: int, update: int | None = None) -> PolicyView:
        """The policy of a member after ``update`` updates, or at the end of the run.

        The end is at hand where its parameters are; any other moment is trained again, which
        takes as long as the updates before it. A member that became non-finite stays as it was.

        Raises:
            BadInput: unknown arm or seed, or an update outside the run.
        """
        own = self.member(arm, seed)
        at = self.updates if update is None else update
        expect(0 <= at <= self.updates, "update", update, f"0 to {self.updates}")
        if at == self.updates and arm in self.params:
            i = self.seeds.index(seed)
            params = jax.tree.map(lambda x: x[i], self.params[arm])
        else:
            params = moment(own, self.key(arm, seed), at, self.updates).state.params
        return PolicyView(own.env, own.env_params, own.policy, params)

    def to_csv(self, path: str | Path) -> None:
        """All curves as text, one row per arm, seed and update; a file of that name is replaced.

        Variables with further dimensions have one column per entry: ``share[0]``, ``share[1]``.
        Units and descriptions stay in ``dataset[name].attrs``.

        Raises:
            BadInput: a place that cannot be written.
        """
        columns = {}
        for name, x in self.dataset.data_vars.items():
            further = [d for d in x.dims if d not in ("arm", "seed", "update")]
            for index in np.ndindex(*(x.sizes[d] for d in further)):
                column = f"{name}[{', '.join(map(str, index))}]" if further else str(name)
                columns[column] = x.isel(dict(zip(further, index, strict=True))).drop_vars(
                    further, errors="ignore"
                )
        import xarray as xr

        frame = xr.Dataset(columns).to_dataframe(dim_order=["arm", "seed", "update"])
        try:
            frame.to_csv(path)
        except OSError as error:
            raise BadInput("path", str(path), f"a writable file ({error.strerror})") from None

    @property
    def update(self) -> np.ndarray:
        """Updates done at each point of the curves."""
        return np.asarray(self.dataset["update"].values)

    def frozen(self) -> list[str]:
        """One line for every member that became non-finite: arm, seed, update."""
        stopped = self.dataset["stopped"]
        return [
            f"{arm}, seed {seed}: not finite at update {int(stopped.sel(arm=arm, seed=seed))}"
            for arm, seed in self.frozen_members()
        ]

    def frozen_members(self) -> list[tuple[str, int]]:
        """Arm and seed of every member that became non-finite."""
        stopped = self.dataset["stopped"]
        found = np.argwhere(np.asarray(stopped.values) >= 0)
        seeds = stopped["seed"].values
        return [(self.names[i], int(seeds[j])) for i, j in found]

    def __str__(self) -> str:
        return str(self.dataset)


def assemble(
    curves: dict[str, dict[str, np.ndarray]],
    stopped: dict[str, np.ndarray],
    seeds: tuple[int, ...],
    every: int,
    describe: Mapping[str, Description],
) -> xr.Dataset:
    """Curves by arm and name as one dataset; frozen members are blanked from their last update.

    Args:
        curves: by arm and name, ``[seed, point, …]``. every: updates between two points.
        stopped: by arm, ``[seed]``.
    """
    arms = list(curves)
    names = dict.fromkeys(name for by_name in curves.values() for name in by_name)
    points = len(next(iter(next(iter(curves.values())).values()))[0])
    update = np.arange(points) * every
    blank = {
        arm: (stopped[arm][:, None] >= 0) & (update[None, :] > stopped[arm][:, None])
        for arm in arms
    }

    def stack(name: str) -> np.ndarray:
        some = next(np.asarray(c[name]) for c in curves.values() if name in c)
        absent = np.full(some.shape, np.nan)
        rows = []
        for arm in arms:
            row = np.asarray(curves[arm].get(name, absent), np.float64)
            dead = blank[arm].reshape(*blank[arm].shape, *(1,) * (row.ndim - 2))
            rows.append(np.where(dead, np.nan, row))
        return np.stack(rows)

    about: dict[str, Description] = {**UNITS, **describe}
    import xarray as xr  # late: with pandas it takes as long to import as jax

    variables = {}
    for name in names:
        values = stack(name)
        further = further_dimensions(name, about.get(name, ()), values.ndim - 3)
        variables[name] = (("arm", "seed", "update", *further), values)
    dataset = xr.Dataset(variables, coords={"arm": arms, "seed": list(seeds), "update": update})
    dataset["stopped"] = (("arm", "seed"), np.stack([stopped[a] for a in arms]))
    for name, said in about.items():
        if name in dataset:
            dataset[name].attrs = {"units": said[0], "description": said[1]}
    dataset["update"].attrs = {"units": "updates", "description": "outer updates done"}
    return dataset


def further_dimensions(name: str, said: tuple[Any, ...], count: int) -> tuple[str, ...]:
    """Names of the ``count`` dimensions of a measure beyond arm, seed and update.

    Raises:
        BadInput: a description that names another number of them.
    """
    named = tuple(said[2]) if len(said) > 2 else tuple(f"{name}_{i}" for i in range(count))
    if len(named) != count:
        raise BadInput(f"describe.{name}", list(named), f"the names of {count} dimensions")
    return named


def summary(dataset: xr.Dataset, names: list[str], headings: list[str]) -> str:
    """A table of final values, mean over seeds, one row per arm."""
    last: dict[str, Any] = {n: dataset[n].isel(update=-1).mean("seed").values for n in names}
    arms = [str(a) for a in dataset["arm"].values]
    width = max(len(a) for a in arms)
    lines = [" " * width + "".join(f"{h:>14}" for h in headings)]
    for i, arm in enumerate(arms):
        lines.append(f"{arm:<{width}}" + "".join(f"{last[n][i]:>14.3f}" for n in names))
    return "\n".join(lines)
