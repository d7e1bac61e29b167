"""Recipes: an algorithm as a composition of mechanisms, and the named ones from ``configs/``."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cache
from pathlib import Path
from typing import Any, Literal, get_type_hints

import jax
from jaxrl_envs import BadInput, Environment
from jaxrl_envs.errors import expect, unknown_key
from jaxrl_envs.validate import coerce

from jaxrl_lab import config
from jaxrl_lab.mechanisms import SCHEDULES, SLOTS, Schedule, Spec, catalog, equation_of, name_of
from jaxrl_lab.mechanisms.core import canonical, each, numbers_of
from jaxrl_lab.mechanisms.optimizer import SGD
from jaxrl_lab.policies.core import Policy

Rollout = Literal["episodes", "stream"]


def _static(default: Any) -> Any:
    return field(default=default, metadata={"static": True})


@jax.tree_util.register_dataclass
@dataclass(frozen=True, kw_only=True)
class Recipe:
    """Mechanisms by slot, and the sizes of the run. The empty recipe is REINFORCE.

    Build one with :func:`recipe`, which fills in, checks types and makes arrays of the numbers.
    Numbers of mechanisms are pytree leaves; everything else is static structure.

    Attributes:
        name: for people; not part of the structure that decides what shares a program.
        group: rollouts per prompt, G.
        prompts: prompts (or environments of a stream) per batch, B; 0 means all train prompts.
        epochs, minibatches: passes over a batch and pieces of each pass.
        rollout: ``episodes`` or ``stream`` (environments run on and restart by themselves).
        steps: length of a stream's batch, T; 0 means the horizon of the world.
    """

    task: tuple[Any, ...] = ()
    reward: tuple[Any, ...] = ()
    advantage: tuple[Any, ...] = ()
    credit: tuple[Any, ...] = ()
    surrogate: tuple[Any, ...] = ()
    weight: tuple[Any, ...] = ()
    regularizer: tuple[Any, ...] = ()
    aggregate: tuple[Any, ...] = ()
    optimizer: tuple[Any, ...] = ()
    update: tuple[Any, ...] = ()
    name: str = _static("reinforce")
    group: int = _static(8)
    prompts: int = _static(0)
    epochs: int = _static(1)
    minibatches: int = _static(1)
    rollout: Rollout = _static("episodes")
    steps: int = _static(0)

    @property
    def passes(self) -> tuple[str, ...]:
        """Names of the further parameter trees some mechanism asks for."""
        wanted = [n for _, _, mech in each(self) for n in getattr(mech, "passes", ())]
        return tuple(dict.fromkeys(wanted))

    @property
    def needs(self) -> frozenset[str]:
        """Facts about the run that some mechanism depends on."""
        return frozenset(n for _, _, mech in each(self) for n in getattr(mech, "needs", ()))

    def spec(self, env: Environment, policy: Policy) -> Spec:
        """The sizes of a run of this recipe in a world."""
        stream = self.rollout == "stream"
        prompts = self.prompts or len(env.level_ids("train"))
        horizon = (self.steps or env.horizon) if stream else env.horizon
        return Spec(env, policy, self, prompts, 1 if stream else self.group, horizon)

    def check(self, env: Environment, policy: Policy) -> None:
        """Refuse a recipe that cannot run in this world with this policy.

        Raises:
            BadInput: naming the slot, the mechanism and the number.
        """
        spec = self.spec(env, policy)
        for size in ("group", "epochs", "minibatches"):
            value = getattr(self, size)
            expect(value >= 1, f"recipe.{size}", value, "at least 1")
        expect(self.prompts >= 0, "recipe.prompts", self.prompts, "0 (all) or more")
        expect(self.steps >= 0, "recipe.steps", self.steps, "0 (the horizon) or more")
        if self.rollout == "stream":
            names = ", ".join(name_of(m) for m in self.task)
            expect(not self.task, "recipe.task", names, "nothing: a stream draws its own prompts")
            why = "gae or reward_to_go: a stream is cut in mid-episode and has no returns"
            expect(bool(self.advantage), "recipe.advantage", (), why)
        expect(
            spec.prompts % self.minibatches == 0,
            "recipe.minibatches",
            self.minibatches,
            f"a divisor of the {spec.prompts} prompts of a batch",
        )
        expect(len(self.aggregate) <= 1, "recipe.aggregate", len(self.aggregate), "one mechanism")
        for slot, _, mech in each(self):
            if hasattr(mech, "check"):
                try:
                    mech.check(spec)
                except BadInput as error:
                    own = error.key in {f.name for f in dataclasses.fields(mech)}
                    raise (
                        error.within(f"recipe.{slot}.{name_of(mech)}") if own else error
                    ) from None
        if "value" in self.needs and not getattr(policy, "value", False):
            users = [name_of(m) for _, _, m in each(self) if "value" in getattr(m, "needs", ())]
            expected = f"true, because {', '.join(users)} needs a value head"
            raise BadInput("policy.value", False, expected)

    def __str__(self) -> str:
        return equation(self)


def recipe(base: str | Recipe = "", **changes: Any) -> Recipe:
    """A recipe from a named one (or from the empty one) with some slots or sizes replaced.

    A slot takes one mechanism, a tuple of them, or their names in the words of the
    configuration files. ``recipe("grpo", group=4, regularizer=EntropyBonus(coefficient=0.01))``.

    Raises:
        BadInput: unknown recipe, slot, mechanism or field, or a value of the wrong type.
    """
    expect(isinstance(base, str | Recipe), "recipe", base, "the name of a recipe")
    built = base if isinstance(base, Recipe) else named(base) if base else Recipe()
    for key, value in changes.items():
        built = with_value(built, key, value)
    return built


def with_value(built: Recipe, path: str, value: Any) -> Recipe:
    """The recipe with one entry replaced.

    ``path`` is a size (``group``), a slot (``surrogate``), or a number of a mechanism
    (``surrogate.high``, or ``regularizer.entropy_bonus.coefficient`` where several have it).

    Raises:
        BadInput: no such entry, or a value of the wrong type.
    """
    head, dot, rest = path.partition(".")
    sizes = [f.name for f in dataclasses.fields(Recipe) if f.name not in SLOTS]
    if head in SLOTS:
        slot = _set_number(built, head, rest, value) if dot else parse_slot(head, value)
        changes: dict[str, Any] = {head: slot}
        return replace(built, **changes)
    if head not in sizes or dot:
        raise unknown_key(f"recipe.{path}", value, [*SLOTS, *sizes])
    hint = get_type_hints(Recipe)[head]
    return replace(built, **{head: coerce(f"recipe.{head}", value, hint)})


def parse_slot(slot: str, value: Any) -> tuple[Any, ...]:
    """Mechanisms of a slot from objects, names, or ``{name: {field: value}}`` mappings.

    The name of a recipe stands for what that recipe has in the slot.
    """
    if isinstance(value, str) and value not in catalog()[slot] and value in names():
        mechanisms: tuple[Any, ...] = getattr(named(value), slot)
        return mechanisms
    items = list(value) if isinstance(value, list | tuple) else [value]
    return tuple(canonical(_parse_mechanism(slot, item)) for item in items if item is not None)


def _parse_mechanism(slot: str, item: Any) -> Any:
    known = catalog()[slot]
    if isinstance(item, str):
        item = {item: {}}
    if not isinstance(item, Mapping):
        return _own_mechanism(slot, item)
    if len(item) != 1:
        raise BadInput(f"recipe.{slot}", dict(item), "one mechanism per list entry")
    ((name, fields),) = item.items()
    if name not in known:
        raise BadInput(f"recipe.{slot}", name, f"a mechanism of slot {slot}", known)
    if fields is not None and not isinstance(fields, Mapping):
        raise BadInput(f"recipe.{slot}.{name}", fields, "a mapping of fields to values")
    return build_mechanism(known[name], fields or {}, f"recipe.{slot}.{name}")


def _own_mechanism(slot: str, item: Any) -> Any:
    """An object given as it is: a dataclass instance, and not one that belongs elsewhere."""
    key = f"recipe.{slot}"
    if isinstance(item, type) or not dataclasses.is_dataclass(item):
        raise BadInput(key, item, f"a mechanism of slot {slot}, or its name", catalog()[slot])
    if any(leaf is item for leaf in jax.tree.leaves(item)):
        raise BadInput(key, item, "a class decorated with @mechanism, so that it is a pytree")
    for other, known in catalog().items():
        if other != slot and type(item) in known.values():
            raise BadInput(key, name_of(item), f"a mechanism of slot {slot}, not of slot {other}")
    return item


def build_mechanism(cls: type[Any], given: Mapping[str, Any], key: str) -> Any:
    """A mechanism from plain values; numbers may be schedules (``{linear: {start, end}}``)."""
    hints = get_type_hints(cls)
    fields = {f.name: f for f in dataclasses.fields(cls)}
    for name, value in given.items():
        if name not in fields:
            raise unknown_key(f"{key}.{name}", value, fields)
    for name, f in fields.items():
        if f.default is dataclasses.MISSING and name not in given:
            raise BadInput(f"{key}.{name}", None, "a value (this field has no default)")
    return cls(**{k: _parse_field(f"{key}.{k}", v, hints[k]) for k, v in given.items()})


def _parse_field(key: str, value: Any, hint: Any) -> Any:
    is_number = hint in (float, float | None)
    if is_number and isinstance(value, bool):  # also where None is allowed
        raise BadInput(key, value, "a number")
    if is_number and isinstance(value, Schedule | jax.Array):
        return value
    if is_number and isinstance(value, Mapping):
        ((kind, fields),) = value.items() if len(value) == 1 else (("", {}),)
        if kind not in SCHEDULES:
            raise BadInput(key, dict(value), f"a number or one of {', '.join(SCHEDULES)}")
        if not isinstance(fields, Mapping) or any(isinstance(v, Mapping) for v in fields.values()):
            raise BadInput(f"{key}.{kind}", fields, "numbers for start and end")
        return build_mechanism(SCHEDULES[kind], fields, f"{key}.{kind}")
    value = coerce(key, value, hint)
    if is_number and value is not None:
        expect(value == value, key, value, "a number")  # not a NaN
    return value


def _set_number(built: Recipe, slot: str, path: str, value: Any) -> tuple[Any, ...]:
    mechanisms = getattr(built, slot)
    which, _, name = path.rpartition(".")
    fields = {name_of(m): [f.name for f in dataclasses.fields(m)] for m in mechanisms}
    hits = [
        i
        for i, m in enumerate(mechanisms)
        if which in ("", name_of(m)) and name in fields[name_of(m)]
    ]
    key = f"recipe.{slot}.{path}"
    if len(hits) > 1:
        owners = ", ".join(f"{slot}.{name_of(mechanisms[i])}.{name}" for i in hits)
        raise BadInput(key, value, f"one of {owners} (several mechanisms have this field)")
    if not hits:
        raise unknown_key(key, value, sorted({f for names in fields.values() for f in names}))
    mech = mechanisms[hits[0]]
    hint = get_type_hints(type(mech))[name]
    changed = canonical(replace(mech, **{name: _parse_field(key, value, hint)}))
    return (*mechanisms[: hits[0]], changed, *mechanisms[hits[0] + 1 :])


def names() -> tuple[str, ...]:
    """The named recipes."""
    return tuple(sorted(p.stem for p in (config.folder() / "recipes").glob("*.yaml")))


@cache
def named(name: str) -> Recipe:
    """A recipe of ``configs/recipes/``.

    Raises:
        BadInput: unknown name, with the nearest one.
    """
    if name not in names():
        raise BadInput("recipe", name, "a named recipe", names())
    path: Path = config.folder() / "recipes" / f"{name}.yaml"
    built = from_mapping(config.read_yaml(path))
    return replace(built, name=name)


def from_mapping(data: Mapping[str, Any]) -> Recipe:
    """A recipe from the mapping of a configuration file; ``base`` names what it starts from."""
    base = data.get("base", "")
    expect(isinstance(base, str), "base", base, "the name of a recipe")
    start = recipe(base)
    for key, value in data.items():
        if key != "base":
            start = with_value(start, key, value)
    return start


def to_mapping(built: Recipe) -> dict[str, Any]:
    """The recipe as plain data that :func:`from_mapping` reads back without loss."""
    data: dict[str, Any] = {}
    for f in dataclasses.fields(built):
        value = getattr(built, f.name)
        if f.name in SLOTS:
            if value:
                data[f.name] = [{name_of(m): fields_of(m)} for m in value]
        else:
            data[f.name] = value
    return data


def fields_of(thing: Any) -> dict[str, Any]:
    """The fields of a mechanism as plain data that :func:`build_mechanism` reads back."""

    def show(value: Any) -> Any:
        return {name_of(value): numbers_of(value)} if isinstance(value, Schedule) else value

    return {k: show(v) for k, v in numbers_of(thing).items() if v is not None}


def equation(built: Recipe) -> str:
    """The composed objective as text, from the rollout to the parameter step."""
    equations = {slot: [equation_of(m) for m in getattr(built, slot)] for slot in SLOTS}
    surrogate = " + ".join(equations["surrogate"]) or "A·log π"
    if equations["weight"]:
        surrogate = f"({surrogate})·w"
    # A penalty that begins with a minus is a bonus: print it as one.
    penalties = [f" + {r[1:]}" if r[0] == "−" else f" − {r}" for r in equations["regularizer"]]
    inside = surrogate + "".join(penalties)
    aggregate = equations["aggregate"][0] if equations["aggregate"] else "mean_responses Σ_tokens"
    step = equations["optimizer"] or [equation_of(canonical(SGD(learning_rate=1.0)))]
    if built.rollout == "stream":
        sizes = f"{built.prompts or 'all'} environments × {built.steps or 'horizon'} steps"
    else:
        sizes = f"{built.prompts or 'all'} prompts × {built.group} rollouts"
    lines = [f"{built.name}: {sizes}, {built.epochs} epochs × {built.minibatches} minibatches"]
    lines += [f"  task       {e}" for e in equations["task"]]
    lines += [f"  reward     {e}" for e in equations["reward"]]
    lines += [f"  advantage  {e}" for e in equations["advantage"] or ["A = R"]]
    lines += [f"  credit     {e}" for e in equations["credit"]]
    lines += [f"  weight     w = {e}" for e in equations["weight"]]
    lines += [f"  maximize   J = {aggregate} {{ {inside} }}"]
    lines += [f"  step       θ ← θ + {' ∘ '.join(reversed(step))} ∇J"]
    lines += [f"  update     {e}" for e in equations["update"]]
    return "\n".join(lines)
