"""Oracles: exact values, gradients and updates of small worlds, to lay next to sampled ones.

Functions of many operations are jitted, so that one called by itself is one program to compile.
"""

from jaxrl_lab.exact.attempts import (
    distinct_modes,
    distinct_solutions,
    expected_best,
    mean_pass_at_k,
    mode_mass,
)
from jaxrl_lab.exact.count_policies import (
    Beliefs,
    Played,
    argmax_table,
    beliefs,
    play_counts,
    reference_rules,
)
from jaxrl_lab.exact.discounted import (
    Stationary,
    discounted_occupancy,
    discounted_return,
    discounted_value,
    fully_observed,
    soft_stationary,
)
from jaxrl_lab.exact.divergences import (
    action_occupancy,
    occupancy_chi_squared,
    occupancy_kl,
    trajectory_chi_squared,
)
from jaxrl_lab.exact.dynamics import (
    covariance,
    difficulty_weight,
    expected_update,
    first_order_entropy_change,
    flow_invariants,
    measured_entropy_change,
    natural_gradient_entropy_change,
    policy_gradient_entropy_change,
    reinforce_entropy_change,
    replicator_flow,
    second_order_entropy_change_random_rewards,
    softmax_flow,
    tuples,
)
from jaxrl_lab.exact.gradients import (
    entropy_gradient,
    kl_gradient,
    natural_gradient,
    policy_gradient,
)
from jaxrl_lab.exact.group_weight import (
    advantage_tables,
    group_advantages,
    group_noise,
    group_weight,
    unsampled_push,
)
from jaxrl_lab.exact.groups import Moments, compositions, exact_moments, sampled_moments
from jaxrl_lab.exact.informative import informative_chance
from jaxrl_lab.exact.interference import own_and_cross
from jaxrl_lab.exact.levels import tabulate
from jaxrl_lab.exact.noise import expected_path, linear_noise, normalized_update_moments
from jaxrl_lab.exact.noisy_verifier import (
    advantage_variance,
    noise_factor,
    noisy_clipped_change,
    noisy_pass_rate,
    random_reward_change,
    reuse_drift,
)
from jaxrl_lab.exact.outer_loop import inner_loop_plateau, plateau, regularized_bandit
from jaxrl_lab.exact.solutions import (
    log_success,
    solution_count,
    success,
    success_entropy,
    success_policy,
)
from jaxrl_lab.exact.solve import (
    Solution,
    expected_return,
    occupancy,
    optimal,
    rows_to_states,
    soft_optimal,
    trajectory_entropy,
    trajectory_kl,
    value,
)

__all__ = [
    "Beliefs",
    "Moments",
    "Played",
    "Solution",
    "Stationary",
    "action_occupancy",
    "advantage_tables",
    "advantage_variance",
    "argmax_table",
    "beliefs",
    "compositions",
    "covariance",
    "difficulty_weight",
    "discounted_occupancy",
    "discounted_return",
    "discounted_value",
    "distinct_modes",
    "distinct_solutions",
    "entropy_gradient",
    "exact_moments",
    "expected_best",
    "expected_path",
    "expected_return",
    "expected_update",
    "first_order_entropy_change",
    "flow_invariants",
    "fully_observed",
    "group_advantages",
    "group_noise",
    "group_weight",
    "informative_chance",
    "inner_loop_plateau",
    "kl_gradient",
    "linear_noise",
    "log_success",
    "mean_pass_at_k",
    "measured_entropy_change",
    "mode_mass",
    "natural_gradient",
    "natural_gradient_entropy_change",
    "noise_factor",
    "noisy_clipped_change",
    "noisy_pass_rate",
    "normalized_update_moments",
    "occupancy",
    "occupancy_chi_squared",
    "occupancy_kl",
    "optimal",
    "own_and_cross",
    "plateau",
    "play_counts",
    "policy_gradient",
    "policy_gradient_entropy_change",
    "random_reward_change",
    "reference_rules",
    "regularized_bandit",
    "reinforce_entropy_change",
    "replicator_flow",
    "reuse_drift",
    "rows_to_states",
    "sampled_moments",
    "second_order_entropy_change_random_rewards",
    "soft_optimal",
    "soft_stationary",
    "softmax_flow",
    "solution_count",
    "success",
    "success_entropy",
    "success_policy",
    "tabulate",
    "trajectory_chi_squared",
    "trajectory_entropy",
    "trajectory_kl",
    "tuples",
    "unsampled_push",
    "value",
]
