"""Learners: one file each, readable top to bottom."""

from jaxrl_lab.learners.policy_gradient import PolicyGradient

__all__ = ["PolicyGradient"]
