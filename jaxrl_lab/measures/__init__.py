"""What is read off a policy or a run: spread, diversity of solutions, laws along a run."""

from jaxrl_lab.measures.diversity import (
    accuracy,
    coverage_at_k,
    effective_solutions,
    estimated_pass_at_k,
    pass_at_k,
    prompt_mean,
    solution_deficit,
)
from jaxrl_lab.measures.entropy import kl_to, token_entropy
from jaxrl_lab.measures.exploration import (
    coverage,
    greedy_fraction,
    minimal_fraction,
    suffix_failure,
)
from jaxrl_lab.measures.law import Fit, exponential_law, linear_law, logistic_law, over_seeds

__all__ = [
    "Fit",
    "accuracy",
    "coverage",
    "coverage_at_k",
    "effective_solutions",
    "estimated_pass_at_k",
    "exponential_law",
    "greedy_fraction",
    "kl_to",
    "linear_law",
    "logistic_law",
    "minimal_fraction",
    "over_seeds",
    "pass_at_k",
    "prompt_mean",
    "solution_deficit",
    "suffix_failure",
    "token_entropy",
]
