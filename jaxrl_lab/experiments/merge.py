"""Several runs as one: what was trained on two machines or on two days, in one dataset."""

from __future__ import annotations

from dataclasses import replace

import jax
import numpy as np
from jaxrl_envs import BadInput
from jaxrl_envs.errors import expect

from jaxrl_lab.experiments.population import Arm
from jaxrl_lab.experiments.result import Result
from jaxrl_lab.mechanisms.core import canonical
from jaxrl_lab.types import Tree


def merge(*results: Result) -> Result:
    """Several runs as one: more seeds of the same arms, more arms, or both.

    A member that no run had is NaN throughout, as a seed that never arrived. Numbers and versions
    that the runs do not share are dropped from the attributes.

    Raises:
        BadInput: nothing to merge, runs of different length or cadence, a member that two runs
            have, or two arms that share a name and nothing else.
    """
    expect(len(results) > 0, "results", (), "at least one result")
    first = results[0]
    for other in results[1:]:
        same = other.updates == first.updates and np.array_equal(other.update, first.update)
        expect(other.noise == first.noise, "noise", other.noise, f"the first one's, {first.noise}")
        expect(same, "update", other.update[-3:], f"the updates of the first, {first.update[-3:]}")
    arms: dict[str, Arm] = {}
    seen: set[tuple[str, int]] = set()
    for result in results:
        for name, arm in result.arms.items():
            if name in arms and not _same(arms[name], arm):
                raise BadInput("arm", name, "the same settings wherever an arm has this name")
            arms[name] = arm
        coords = result.dataset.coords
        members = {(str(a), int(s)) for a in coords["arm"].values for s in coords["seed"].values}
        for arm_name, seed in sorted(seen & members)[:1]:
            raise BadInput("seed", seed, f"a seed of {arm_name} that no other result has")
        seen |= members
    import xarray as xr  # late: with pandas it takes as long to import as jax

    parts = [result.dataset for result in results]
    dataset = xr.merge(parts, join="outer", compat="no_conflicts", combine_attrs="drop_conflicts")
    dataset["stopped"] = dataset["stopped"].fillna(-1).astype(parts[0]["stopped"].dtype)
    order = list(dict.fromkeys(str(a) for part in parts for a in part["arm"].values))
    dataset = dataset.sel(arm=order)
    for name in (*dataset.data_vars, "update"):
        dataset[name].attrs = next(p[name].attrs for p in parts if name in p)
    seeds = tuple(int(s) for s in dataset["seed"].values)
    params = {name: _merged_params(results, name, seeds) for name in arms}
    known = {name: tree for name, tree in params.items() if tree is not None}
    return replace(first, dataset=dataset, arms=arms, seeds=seeds, params=known, seconds={})


def _same(one: Arm, other: Arm) -> bool:
    """Whether two arms train the same policy in the same world with the same numbers."""
    if (one.env, one.policy) != (other.env, other.policy):
        return False
    numbers = [(canonical(a.recipe), a.env_params, a.base) for a in (one, other)]
    forms = [jax.tree.structure(n) for n in numbers]
    mine, theirs = (jax.tree.leaves(n) for n in numbers)
    return len(set(forms)) == 1 and all(map(np.array_equal, mine, theirs))


def _merged_params(results: tuple[Result, ...], arm: str, seeds: tuple[int, ...]) -> Tree | None:
    """Final parameters of all seeds, or None where some are not known."""
    rows = {
        seed: jax.tree.map(lambda x, i=i: x[i], result.params[arm])
        for result in results
        if arm in result.params
        for i, seed in enumerate(result.seeds)
    }
    if set(rows) != set(seeds):
        return None
    return jax.tree.map(lambda *xs: np.stack(xs), *(rows[seed] for seed in seeds))
