"""Where a study comes from: a phenomenon's configuration by name, or a YAML file by path.

A file is a phenomenon's configuration with lines changed, the ``config.yaml`` of a run directory,
or an experiment of your own. A study whose phenomenon is followed by ``without claims`` is
measured as the phenomenon is, and decides nothing.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from jaxrl_envs import BadInput
from jaxrl_envs.errors import expect, unknown_key

from jaxrl_lab import config
from jaxrl_lab.experiments import store
from jaxrl_lab.experiments.spec import ROOTS, SIZES, Study
from jaxrl_lab.experiments.sweep import MARK, differences, is_sweep

TIERS = ("quick", "default", "verdict")
UNCLAIMED = " without claims"
OF_AN_EXPERIMENT = (*ROOTS, *SIZES, "arms", "settings")


def names() -> tuple[str, ...]:
    """The phenomena with a configuration file."""
    return tuple(config.phenomena())


def load_study(what: str | Path, tier: str = "default") -> Study:
    """A phenomenon's study by name, or the study in a file, in one of its tiers.

    What a file sets otherwise than the phenomenon it names is among the study's changes.

    Raises:
        BadInput: unknown phenomenon or tier, or a file that is no study.
    """
    if not config.is_path(what):
        return shipped(str(what), tier)
    data = as_study(config.read_yaml(Path(what)))
    # A file without tiers is as it is: its own tier and changes are those of the run it is of.
    own = in_tier(data, tier) if "tiers" in data else _as_it_is(data, tier)
    name = own.name.removesuffix(UNCLAIMED)
    if not name or is_sweep(own):
        return own
    reference = shipped(name, own.tier)
    missing = _lacking(own, shipped(name, "verdict")) if own.name == name else None
    if missing:
        expected = f"what a claim may be about, or phenomenon: {name}{UNCLAIMED}"
        raise BadInput(missing, None, expected)
    return replace(own, changed=own.changed | differences(own, reference))


def shipped(name: str, tier: str) -> Study:
    """The study of a phenomenon as it is published."""
    if name not in names():
        raise config.unknown_phenomenon(name)
    return in_tier(config.read_yaml(config.folder() / f"{name}.yaml"), tier)


def as_study(data: Mapping[str, Any]) -> dict[str, Any]:
    """The mapping of a file as that of a study: an experiment alone is put under ``experiments``.

    Raises:
        BadInput: keys that belong neither to a study nor to an experiment.
    """
    for key in data:
        if key not in (*store.OF_A_STUDY, *OF_AN_EXPERIMENT):
            alone = () if "experiments" in data else OF_AN_EXPERIMENT
            names = (*store.OF_A_STUDY, *alone)
            raise unknown_key(key, data[key], names)
    changed = data.get("changed") or {}
    expect(isinstance(changed, Mapping), "changed", changed, "a mapping")
    if "experiments" in data:
        return dict(data)
    inner = {k: v for k, v in data.items() if k in OF_AN_EXPERIMENT}
    outer = {k: v for k, v in data.items() if k not in OF_AN_EXPERIMENT}
    expect(bool(inner), "experiments", None, "experiments, or the entries of one")
    return outer | {"experiments": {"experiment": {"arms": {"arm": {}}} | inner}}


def in_tier(data: Mapping[str, Any], tier: str) -> Study:
    """The study of a mapping with what one of its tiers changes.

    Raises:
        BadInput: an unknown tier, or a tier that changes what is not there.
    """
    study, tiers = store.parse_study(data), data.get("tiers") or {}
    expect(isinstance(tiers, Mapping), "tiers", tiers, "a mapping")
    if tier not in tiers:
        raise BadInput("tier", tier, "a tier", tiers)
    settings = tiers[tier] or {}
    expect(isinstance(settings, Mapping), f"tiers.{tier}", settings, "a mapping")
    left_out = settings.get("without", ())
    expect(isinstance(left_out, list | tuple), f"tiers.{tier}.without", left_out, "a list")
    study = _without(study, left_out, f"tiers.{tier}.without")
    for path, value in settings.items():
        if path != "without":
            study = study.with_setting(path, value)
    return replace(study, tier=tier)


def _without(study: Study, left_out: Sequence[str], key: str) -> Study:
    """The study without some of its ``experiment``s, or of their arms (``experiment.arm``)."""
    of_arms = [f"{name}.{arm}" for name, e in study.experiments.items() for arm in e.arms]
    for missing in left_out:
        if missing not in (known := [*study.experiments, *of_arms]):
            raise BadInput(key, missing, "an experiment, or an arm of one", known)
    kept = {
        name: replace(e, arms={a: x for a, x in e.arms.items() if f"{name}.{a}" not in left_out})
        for name, e in study.experiments.items()
        if name not in left_out
    }
    return replace(study, experiments=kept)


def restrict(study: Study, experiment: str | None, arms: Sequence[str] = ()) -> Study:
    """One experiment of a study, or some of its arms, without claims.

    Raises:
        BadInput: no such experiment or arm.
    """
    kept = dict(study.experiments)
    if experiment is not None:
        if experiment not in kept:
            raise BadInput("experiment", experiment, "an experiment of the study", kept)
        kept = {experiment: kept[experiment]}
    for arm in arms:
        known = dict.fromkeys(a for e in kept.values() for a in e.arms)
        if arm not in known:
            raise BadInput("arm", arm, "an arm of the study", known)
    if arms:
        kept = {
            n: replace(e, arms={a: own for a, own in e.arms.items() if a in arms})
            for n, e in kept.items()
            if any(a in e.arms for a in arms)
        }
    named = bool(study.name) and not study.name.endswith(UNCLAIMED)
    return replace(study, experiments=kept, name=study.name + UNCLAIMED * named)


def _as_it_is(data: Mapping[str, Any], tier: str) -> Study:
    expect(tier == "default", "tier", tier, "no tier: the file has none")
    study = store.parse_study(data)
    if study.tier.removesuffix(f" {MARK}") not in TIERS:
        raise BadInput("tier", study.tier, "a tier", TIERS)
    return study


def _lacking(study: Study, reference: Study) -> str:
    """The first experiment or arm of a phenomenon that a study of it does not have."""
    for name in (n for n in reference.experiments if n in study.experiments):
        for arm in reference.experiments[name].arms:
            if arm not in study.experiments[name].arms:
                return f"experiments.{name}.arms.{arm}"
    return ""
