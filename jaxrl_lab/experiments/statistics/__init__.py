"""Intervals, tests and planning numbers over seeds.

Seeds are the unit of replication everywhere: the axis ``S`` counts independent runs, never
episodes or tokens. A seed that never arrived is NaN; :func:`curve_band` and the crossing functions
carry it along and count it, every other function refuses it, so that nobody averages over
survivors without having decided to.

How a claim becomes a verdict is in :mod:`jaxrl_lab.experiments.claims`.
"""

from jaxrl_lab.experiments.statistics.crossings import at_matched, first_crossing
from jaxrl_lab.experiments.statistics.intervals import (
    Band,
    Difference,
    Floats,
    Interval,
    curve_band,
    difference,
    holm,
    mean_and_error,
    mean_interval,
    paired_difference,
    t_quantile,
    unpaired_difference,
)
from jaxrl_lab.experiments.statistics.planning import minimum_detectable_effect, seeds_needed
from jaxrl_lab.experiments.statistics.resampling import (
    bootstrap_interval,
    improvement_interval,
    iqm,
    paired_interval,
    performance_profile,
    probability_of_improvement,
    stratified_interval,
)

__all__ = [
    "Band",
    "Difference",
    "Floats",
    "Interval",
    "at_matched",
    "bootstrap_interval",
    "curve_band",
    "difference",
    "first_crossing",
    "holm",
    "improvement_interval",
    "iqm",
    "mean_and_error",
    "mean_interval",
    "minimum_detectable_effect",
    "paired_difference",
    "paired_interval",
    "performance_profile",
    "probability_of_improvement",
    "seeds_needed",
    "stratified_interval",
    "t_quantile",
    "unpaired_difference",
]
