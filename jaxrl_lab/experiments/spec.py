"""Experiments as data: settings by dotted path, arms as named overrides of them.

An experiment in YAML is a mapping; nested mappings under ``environment``, ``policy`` and
``recipe`` are flattened to dotted paths, and an arm is a mapping of such paths to other values:

    environment: {id: bandit/modes, prompts: 64, params: {decoy_reward: 0.9}}
    policy: {id: tabular, scale: 1.5}
    recipe: {optimizer: [sgd: {learning_rate: 6.4}]}     # changes common to all arms
    updates: 300
    arms:
      grpo: {recipe: grpo}
      bold: {recipe: grpo, recipe.surrogate.high: 0.4}
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from itertools import product
from typing import Any

import jax.numpy as jnp
import jaxrl_envs
from jaxrl_envs import BadInput, Environment
from jaxrl_envs.errors import expect, unknown_key
from jaxrl_envs.validate import coerce

from jaxrl_lab import policies, recipes
from jaxrl_lab.experiments.box import Box
from jaxrl_lab.experiments.labels import short_paths, value_label
from jaxrl_lab.experiments.noise import Noise
from jaxrl_lab.experiments.population import Arm
from jaxrl_lab.policies.core import Policy
from jaxrl_lab.types import Tree

SIZES = {
    "updates": int,
    "measure_every": int,
    "seeds": int,
    "first_seed": int,
    "common_noise": bool,
    "generator": str,
}
"""Entries of an experiment that are not settings of its arms, and their types."""
ROOTS = ("environment", "policy", "recipe")
Settings = dict[str, Any]
"""Values by dotted path, for example ``{"environment.arms": 32, "recipe": "grpo"}``."""


@dataclass(frozen=True)
class Experiment:
    """What is trained, how long, with which seeds, in which arms.

    Attributes:
        settings: common to all arms, by dotted path.
        arms: each arm's own settings, by name.
        updates: outer updates. measure_every: updates between two measurements.
        seeds: how many. first_seed: the first of them.
        common_noise: whether arms of one seed share all their noise, for paired differences.
        generator: of random numbers, ``threefry`` or, faster, ``counter``.
    """

    settings: Settings
    arms: dict[str, Settings]
    updates: int = 100
    measure_every: int = 1
    seeds: int = 16
    first_seed: int = 0
    common_noise: bool = True
    generator: str = "threefry"

    def build(self) -> dict[str, Arm]:
        """Every arm as objects, checked.

        Raises:
            BadInput: naming the dotted path of the setting that cannot be used.
        """
        expect(len(self.arms) > 0, "arms", {}, "at least one arm")
        for size in ("updates", "measure_every", "seeds"):
            expect(getattr(self, size) >= 1, size, getattr(self, size), "at least 1")
        expect(self.updates < 2**31, "updates", self.updates, "below 2^31")
        room = 2**32 - self.seeds
        expect(0 <= self.first_seed <= room, "first_seed", self.first_seed, f"0 to {room}")
        self.noise.check()
        divides = self.updates % self.measure_every == 0
        expect(
            divides, "measure_every", self.measure_every, f"a divisor of updates = {self.updates}"
        )
        built = {}
        for name, own in self.arms.items():
            try:
                built[name] = build_arm(self.settings, own)
                built[name].check()
            except BadInput as error:
                nested = (path for path in own if path not in ROOTS)
                mine = error.key in own or any(error.key.startswith(f"{p}.") for p in nested)
                where = f"arms.{name}." if mine else ""
                raise BadInput(
                    where + error.key, error.value, error.expected, error.names, error.name
                ) from None
        return built

    @property
    def noise(self) -> Noise:
        """Where the noise comes from, and whether arms share it."""
        return Noise(self.common_noise, self.generator)

    @property
    def sizes(self) -> dict[str, Any]:
        """Length, seeds, cadence and noise, as a run takes them."""
        return {
            "updates": self.updates,
            "seeds": range(self.first_seed, self.first_seed + self.seeds),
            "every": self.measure_every,
            "common_noise": self.common_noise,
            "generator": self.generator,
        }

    def with_setting(self, path: str, value: Any) -> Experiment:
        """The experiment with one entry replaced: a size, a setting, or ``arms.NAME.PATH``."""
        head, _, rest = path.partition(".")
        if head in SIZES and not rest:
            return replace(self, **{head: coerce(path, value, SIZES[head])})
        if head == "arms" and rest:
            name = arm_in(rest, self.arms)
            if name not in self.arms:
                raise BadInput(path, value, "an arm of the experiment", self.arms, name=name)
            inner = rest[len(name) + 1 :]
            own = _flatten_arm(name, {inner: value} if inner else value)
            return replace(self, arms=self.arms | {name: self.arms[name] | own})
        if head == "arms":
            raise BadInput(path, value, "arms.NAME.PATH, an entry of an arm")
        if head not in ROOTS:
            raise unknown_key(path, value, [*SIZES, *ROOTS, "arms"], head)
        new = _flatten(path, value)
        return replace(self, settings=_without_options_of_another(self.settings, new) | new)

    def is_overridden(self, path: str) -> bool:
        """Whether every arm sets the entry itself, so that nobody would read a common one."""
        return bool(self.arms) and all(path in own for own in self.arms.values())

    def to_mapping(self) -> dict[str, Any]:
        """Plain data that :func:`parse_experiment` reads back without loss."""
        sizes = {size: getattr(self, size) for size in SIZES}
        return {"settings": dict(self.settings)} | sizes | {"arms": {**self.arms}}


def parse_experiment(data: Mapping[str, Any], key: str = "") -> Experiment:
    """An experiment from the mapping of a configuration file.

    Raises:
        BadInput: unknown keys, or values of the wrong type.
    """
    prefix = f"{key}." if key else ""
    allowed = [*ROOTS, *SIZES, "arms", "settings"]
    for name in data:
        if name not in allowed:
            raise unknown_key(prefix + name, data[name], allowed)
    settings: Settings = dict(_mapping(prefix + "settings", data.get("settings", {})))
    for path in settings:
        if path.partition(".")[0] not in ROOTS:
            raise unknown_key(f"{prefix}settings.{path}", settings[path], ROOTS)
    for root in ROOTS:
        if root in data:
            settings |= _flatten(root, data[root])
    arms = _mapping(prefix + "arms", data.get("arms", {}))
    sizes = {s: coerce(prefix + s, data[s], kind) for s, kind in SIZES.items() if s in data}
    return Experiment(settings, {n: _flatten_arm(n, own) for n, own in arms.items()}, **sizes)


def grid(experiment: Experiment, axes: Mapping[str, Any]) -> Experiment:
    """Every combination of the given values as an arm: ``{"recipe.surrogate.high": [0.2, 0.4]}``.

    Each arm of the experiment is crossed with the grid; arms are named after their values.
    """
    expect(len(axes) > 0, "axes", {}, "at least one setting to sweep over")
    for path, values in axes.items():
        _known_root(path, values)
        if not isinstance(values, list | tuple) or not values:
            raise BadInput(path, values, "a list of at least one value to sweep over")
        labels = {value_label(value) for value in values}
        expect(len(labels) == len(values), path, values, "values that differ")
    arms: dict[str, Settings] = {}
    short = short_paths(axes)
    for name, own in experiment.arms.items():
        for combination in product(*axes.values()):
            point = dict(zip(axes, combination, strict=True))
            label = ", ".join(f"{short[p]}={value_label(v)}" for p, v in point.items())
            full = f"{name}: {label}" if len(experiment.arms) > 1 else label
            flat: Settings = {}
            for path, value in point.items():
                flat |= _flatten(path, value)
            arms[full] = own | flat
    return replace(experiment, arms=arms)


def build_arm(common: Settings, own: Settings) -> Arm:
    """One arm from the common settings and its own, which come later and win.

    An arm with another ``policy.id`` or ``environment.id`` leaves the options of the common one
    behind: they are the other's.
    """
    for path, value in (common | own).items():
        _known_root(path, value)
        if path in ("environment", "policy"):
            raise BadInput(path, value, "a mapping with an id, such as {id: …}")
    common = _without_options_of_another(common, own)
    settings = common | own
    env, env_params = build_environment(_below("environment", settings))
    policy, base = _build_policy(_below("policy", settings), env, env_params)
    base_name = settings.get("recipe", "")
    start = recipes.recipe(base_name) if base_name else recipes.Recipe()
    for path, value in [*_below("recipe", common).items(), *_below("recipe", own).items()]:
        start = recipes.with_value(start, path, value)
    return Arm(env, env_params, policy, start, base)


def effective(common: Settings, own: Settings) -> Settings:
    """All settings of an arm in one mapping, which builds the same arm with nothing in common.

    What is common below an entry that the arm replaces as a whole is moot and left out.
    """
    whole = [f"{path}." for path in own if path not in ROOTS]
    kept = {
        path: value
        for path, value in _without_options_of_another(common, own).items()
        if path not in own and not any(path.startswith(start) for start in whole)
    }
    return kept | own


def _without_options_of_another(common: Settings, own: Settings) -> Settings:
    for root in ("environment", "policy"):
        if own.get(f"{root}.id", common.get(f"{root}.id")) != common.get(f"{root}.id"):
            common = {k: v for k, v in common.items() if not k.startswith(f"{root}.")}
    return common


def build_environment(settings: Settings) -> tuple[Environment, Tree]:
    """A world and its params from ``{"id": ..., "arms": ..., "params.slip": ...}``."""
    settings = dict(settings)
    env_id = settings.pop("id", None)
    if env_id is None:
        raise BadInput("environment.id", None, "a registered environment")
    env_id = coerce("environment.id", env_id, str)
    changes = _below("params", settings)
    static = {k: v for k, v in settings.items() if not k.startswith("params.")}
    try:
        env = jaxrl_envs.make(env_id, **static)
        return env, set_params(env, env.default_params, changes)
    except BadInput as error:
        raise (
            error if error.key.startswith("environment") else error.within("environment")
        ) from None


def set_params(env: Environment, params: Tree, changes: Mapping[str, Any]) -> Tree:
    """Environment params with some numbers replaced."""
    names = [f.name for f in dataclasses.fields(params)] if dataclasses.is_dataclass(params) else []
    for name, value in changes.items():
        if name not in names:
            raise unknown_key(f"params.{name}", value, names)
    hints = {k: jnp.asarray(coerce(f"params.{k}", v, float)) for k, v in changes.items()}
    like = {k: v.astype(getattr(params, k).dtype) for k, v in hints.items()}
    return replace(params, **like) if like else params


def _build_policy(settings: Settings, env: Environment, env_params: Tree) -> tuple[Policy, Tree]:
    settings = dict(settings)
    policy_id = coerce("policy.id", settings.pop("id", "tabular"), str)
    pretrain = _below("pretrain", settings)
    static = {k: v for k, v in settings.items() if not k.startswith("pretrain.")}
    try:
        policy = policies.make(policy_id, env, **static)
        if not pretrain:
            return policy, None
        # Solvers and rollouts, which only base policies need, stay out of every other start.
        from jaxrl_lab.experiments.pretrain import BaseSpec, base_policy

        return policy, base_policy(policy, env, env_params, BaseSpec.parse(pretrain))
    except BadInput as error:
        raise (error if error.key.startswith("policy") else error.within("policy")) from None


def _below(root: str, settings: Mapping[str, Any]) -> Settings:
    start = root + "."
    return {k.removeprefix(start): v for k, v in settings.items() if k.startswith(start)}


def _flatten(path: str, value: Any) -> Settings:
    """Nested mappings as dotted paths; a recipe's slot values stay whole."""
    slot = path.startswith("recipe.")
    if isinstance(value, Mapping) and not slot:
        flat: Settings = {}
        for name, inner in value.items():
            key = path if (path, name) == ("recipe", "base") else f"{path}.{name}"
            flat |= _flatten(key, inner)
        return flat
    return {path: value}


def _flatten_arm(name: str, own: Any) -> Settings:
    flat: Settings = {}
    for path, value in _mapping(f"arms.{name}", own).items():
        if path.partition(".")[0] not in ROOTS:
            raise unknown_key(f"arms.{name}.{path}", value, ROOTS)
        flat |= _flatten(path, value)
    return flat


def arm_in(path: str, arms: Mapping[str, Any]) -> str:
    """The arm that ``NAME`` or ``NAME.PATH`` begins with; names may contain dots themselves."""
    own = [name for name in arms if f"{path}.".startswith(f"{name}.")]
    return max(own, key=len, default=path.partition(".")[0])


def _known_root(path: str, value: Any) -> None:
    if path.partition(".")[0] not in ROOTS:
        raise unknown_key(path, value, ROOTS, path.partition(".")[0])


def _mapping(key: str, value: Any) -> Mapping[str, Any]:
    if value is None:
        return {}
    if not isinstance(value, Mapping):
        raise BadInput(key, value, "a mapping")
    return value


@dataclass(frozen=True)
class Study:
    """Everything a phenomenon runs: named experiments, and what to say about them."""

    name: str
    question: str
    experiments: dict[str, Experiment]
    source: str = ""
    tier: str = "default"
    changed: dict[str, Any] = field(default_factory=dict)
    box: Box | None = None

    def with_setting(self, path: str, value: Any) -> Study:
        """One entry replaced; without the name of an experiment, in all of them."""
        asked = path
        head, _, rest = path.partition(".")
        if head in self.experiments and rest:
            chosen = {head: self.experiments[head].with_setting(rest, value)}
            path = rest
        else:
            try:
                chosen = {n: e.with_setting(path, value) for n, e in self._with_arm(path).items()}
            except BadInput as error:
                if error.key == path and error.names and head not in (*SIZES, *ROOTS, "arms"):
                    raise unknown_key(
                        path, value, [*self.experiments, *error.names], head
                    ) from None
                raise
        if all(experiment.is_overridden(path) for experiment in chosen.values()):
            expected = f"arms.NAME.{path}, because every arm sets its own"
            raise BadInput(path, value, expected)
        changed = self.changed | {asked: value}
        return replace(self, experiments=self.experiments | chosen, changed=changed)

    @property
    def departures(self) -> dict[str, Any]:
        """Changes that leave the settings the claims are about: all but the choice of seeds."""
        seeds = ("seeds", "first_seed")
        return {k: v for k, v in self.changed.items() if k.rpartition(".")[2] not in seeds}

    def _with_arm(self, path: str) -> dict[str, Experiment]:
        """For ``arms.NAME…`` the experiments that have that arm, otherwise all."""
        head, _, rest = path.partition(".")
        if head != "arms" or not rest:
            return self.experiments
        having = {n: e for n, e in self.experiments.items() if arm_in(rest, e.arms) in e.arms}
        return having or self.experiments
