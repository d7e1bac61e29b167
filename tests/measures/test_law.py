"""Laws of reward against entropy and time recover what made the data."""

from __future__ import annotations

import jaxrl_envs as je
import numpy as np
import pytest

from jaxrl_lab import measures

ENTROPY = np.linspace(2.5, 0.1, 200)


@pytest.mark.parametrize("fraction", [0.2, 1.0])
def test_the_exponential_law_recovers_its_coefficients(fraction: float) -> None:
    reward = -0.07 * np.exp(ENTROPY) + 0.95
    fit = measures.exponential_law(ENTROPY, reward, fraction)
    np.testing.assert_allclose(fit.coefficients, [0.07, 0.95], rtol=1e-8)
    assert float(fit.ceiling) == pytest.approx(0.88)
    np.testing.assert_allclose(fit.prediction, reward, rtol=1e-8)
    assert float(fit.r2_fit) == pytest.approx(1.0)
    assert int(fit.used) == 200 * fraction
    assert np.isnan(fit.rmse_rest) == (fraction == 1.0)
    if fraction < 1.0:
        assert float(fit.rmse_rest) < 1e-9
        assert float(fit.r2_rest) == pytest.approx(1.0)


def test_the_right_law_of_two_fits_better() -> None:
    noise = 0.002 * np.random.default_rng(0).normal(size=200)
    bent, straight = -0.07 * np.exp(ENTROPY) + 0.95 + noise, -0.3 * ENTROPY + 0.9 + noise
    for reward, right, wrong in (
        (bent, measures.exponential_law, measures.linear_law),
        (straight, measures.linear_law, measures.exponential_law),
    ):
        assert right(ENTROPY, reward).r2_fit > wrong(ENTROPY, reward).r2_fit
        assert right(ENTROPY, reward, 0.3).rmse_rest < wrong(ENTROPY, reward, 0.3).rmse_rest
    fit = measures.linear_law(ENTROPY, straight)
    np.testing.assert_allclose(fit.coefficients, [0.3, 0.9], atol=2e-3)
    assert float(fit.ceiling) == pytest.approx(0.9, abs=2e-3)


@pytest.mark.parametrize(
    "truth", [(0.1, 0.9, 0.03, 120.0), (0.0, 0.6, 0.2, 30.0), (0.8, 0.3, 0.05, 100.0)]
)
def test_the_logistic_law_recovers_its_coefficients(truth: tuple[float, ...]) -> None:
    low, high, rate, middle = truth
    time = np.arange(300.0)
    reward = low + (high - low) / (1 + np.exp(-rate * (time - middle)))
    fit = measures.logistic_law(time, reward)
    np.testing.assert_allclose(fit.coefficients, truth, rtol=1e-3, atol=1e-4)
    noisy = reward + 0.01 * np.random.default_rng(0).normal(size=300)
    early = measures.logistic_law(time, noisy, 0.6)
    assert float(early.ceiling) == pytest.approx(high, abs=0.05)
    assert float(early.rmse_rest) < 0.04


def test_the_logistic_law_stays_inside_its_bounds() -> None:
    time = np.arange(100.0)
    fit = measures.logistic_law(time, 0.002 * time, 0.3)
    assert 0.0 <= float(fit.ceiling) <= 1.0
    flat = measures.logistic_law(time, np.full(100, 0.5))
    np.testing.assert_allclose(flat.prediction, 0.5, atol=1e-6)
    assert np.isnan(flat.r2_fit)
    wide = measures.logistic_law(time, 5.0 / (1 + np.exp(-0.1 * (time - 50))), bounds=(0.0, 10.0))
    assert float(wide.ceiling) == pytest.approx(5.0, rel=1e-3)


def test_seeds_are_stacked_and_gaps_are_left_out() -> None:
    a = np.array([0.05, 0.08, 0.1])
    reward = -a[:, None] * np.exp(ENTROPY) + 0.9
    reward[1, 5] = np.nan
    fits = measures.over_seeds(measures.exponential_law, ENTROPY, reward, fraction=0.2)
    np.testing.assert_allclose(fits.coefficients[:, 0], a, rtol=1e-8)
    np.testing.assert_allclose(fits.ceiling, 0.9 - a, rtol=1e-8)
    assert fits.prediction.shape == (3, 200)
    assert fits.rmse_rest.shape == (3,)


def test_a_constant_entropy_predicts_the_mean() -> None:
    fit = measures.exponential_law(np.full(10, 1.0), np.linspace(0, 1, 10))
    np.testing.assert_allclose(fit.prediction, 0.5)
    assert float(fit.coefficients[0]) == 0.0


def test_series_that_cannot_be_fitted_are_refused() -> None:
    with pytest.raises(je.BadInput, match="finite points"):
        measures.exponential_law(ENTROPY, ENTROPY, 0.001)
    with pytest.raises(je.BadInput, match="shape"):
        measures.linear_law(ENTROPY, ENTROPY[1:])
    with pytest.raises(je.BadInput, match="fraction"):
        measures.linear_law(ENTROPY, ENTROPY, 1.5)
    with pytest.raises(je.BadInput, match="differ"):
        measures.logistic_law(np.ones(9), np.ones(9))
