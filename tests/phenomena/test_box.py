"""The robustness box: which cells there are, what is trained once, and what the table says."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from jaxrl_envs import BadInput

from jaxrl_lab.experiments import store
from jaxrl_lab.experiments.box import Box, parse_box
from jaxrl_lab.experiments.claims import Claim
from jaxrl_lab.experiments.members import traces
from jaxrl_lab.experiments.spec import Study, parse_experiment
from jaxrl_lab.phenomena import one_step
from jaxrl_lab.phenomena.box import BoxReport, read_box, run_box
from jaxrl_lab.phenomena.core import Analysis, Phenomenon, Runs

GAIN = Claim("gain", "It learns.", "accuracy, end minus start", "greater", 0.05, "", "a bandit")
FALL = Claim("fall", "Entropy falls.", "entropy, end minus start", "less", -0.05, "nats", "")


def study(box: dict[str, Any]) -> Study:
    world = {"id": "bandit/modes", "prompts": 4, "arms": 8, "modes": 2}
    recipe = {"group": 4, "optimizer": [{"sgd": {"learning_rate": 4.0}}]}
    sizes = {"updates": 8, "measure_every": 4}
    one = {"environment": world, "recipe": recipe, "arms": {"grpo": {"recipe": "grpo"}}} | sizes
    two = {"environment": world, "recipe": recipe, "arms": {"rloo": {"recipe": "rloo"}}} | sizes
    experiments = {"main": parse_experiment(one), "other": parse_experiment(two)}
    return Study("small", "?", experiments, box=parse_box(box))


def analyze(runs: Runs) -> Analysis:
    ends = {
        name: runs["main"].curve(name, "grpo")[:, -1] - runs["main"].curve(name, "grpo")[:, 0]
        for name in ("accuracy", "entropy")
    }
    assert runs["other"].curve("accuracy", "rloo").shape == (2, 3)
    return Analysis({"gain": ends["accuracy"], "fall": ends["entropy"]})


def phenomenon() -> Phenomenon:
    measures = dict.fromkeys(("main", "other"), (one_step.measure, one_step.DESCRIBE))
    return Phenomenon("small", (GAIN, FALL), measures, analyze, lambda *_: pytest.fail("not drawn"))


BOX = {
    "seeds": 2,
    "settings": {"first_seed": 3},
    "axes": {
        "main.recipe.optimizer.learning_rate": [0.0, 4.0, 8.0],
        "size": {"few": {"recipe.group": 2}, "more": {"recipe.group": 4, "main.updates": 12}},
    },
}


@pytest.fixture(scope="module")
def ran() -> tuple[BoxReport, int]:
    before = traces()
    return run_box(phenomenon(), study(BOX)), traces() - before


def test_no_step_no_gain_and_steps_gain(ran: tuple[BoxReport, int]) -> None:
    report, _ = ran
    assert report.estimate.shape == (2, 3, 2)
    np.testing.assert_allclose(report.estimate[:, 0], 0.0, atol=1e-6)
    assert (report.estimate[0, 1:] > 0).all()
    assert (report.estimate[1, 1:] < 0).all()
    assert not np.allclose(report.estimate[0, 1], report.estimate[0, 2])


def test_cells_that_differ_in_numbers_share_a_program(ran: tuple[BoxReport, int]) -> None:
    # main: two group sizes; other: its two group sizes, once for all learning rates of main.
    assert ran[1] == 4


def test_a_cell_is_the_study_with_its_settings(ran: tuple[BoxReport, int]) -> None:
    from jaxrl_lab.phenomena.core import run_study

    alone = study(BOX)
    for path, value in {
        "main.recipe.optimizer.learning_rate": 8.0, "recipe.group": 4, "main.updates": 12,
        "seeds": 2, "first_seed": 9000,
    }.items():  # fmt: skip
        alone = alone.with_setting(path, value)
    samples = run_study(phenomenon(), alone).analysis.samples
    np.testing.assert_allclose(ran[0].estimate[:, 2, 1], [samples[k].mean() for k in samples], 1e-5)


def report_of(estimate: Any) -> BoxReport:
    axes: Any = {"a": {"x": {}, "y": {}}, "b": {"u": {}, "v": {}}}
    return BoxReport(Box(axes), (GAIN, FALL), np.array(estimate, dtype=float))


def test_shares_count_cells_with_an_answer() -> None:
    report = report_of([[[0.1, 0.2], [0.0, np.nan]], [[-1.0, 1.0], [-1.0, -0.05]]])
    assert report.share(0) == pytest.approx(2 / 3)
    assert [report.share(0, 0, k) for k in (0, 1)] == [1.0, 0.0]
    assert report.share(0, 1, 1) == 1.0
    assert report.share(1) == 0.5, "a mean at the smallest effect is not beyond it"
    text = str(report)
    assert "gain  67 %, 1 cells without an answer" in text
    assert "a: x: 100 %, y: 0 %" in text


def test_too_few_arrivals_are_no_answer() -> None:
    def lost(runs: Runs) -> Analysis:
        sample = np.array([1.0, np.nan])
        return Analysis({"gain": sample, "fall": np.array([-1.0, -1.0])})

    small = BOX | {"axes": {"recipe.group": [2]}}
    report = run_box(replace(phenomenon(), analyze=lost), study(small))
    assert np.isnan(report.estimate[0]).all()
    assert np.isnan(report.share(0))
    assert report.share(1) == 1.0


def test_a_report_survives_json() -> None:
    report = report_of([[[0.1, np.nan], [0.0, 0.3]], [[-1.0, 1.0], [-1.0, 0.0]]])
    text = json.dumps(report.as_dict(), allow_nan=False)
    again = read_box(json.loads(text), report.claims)
    np.testing.assert_array_equal(again.estimate, report.estimate)
    assert again.box == report.box


def test_a_study_with_a_box_is_written_and_read() -> None:
    first = study(BOX)
    import yaml

    again = store.parse_study(yaml.safe_load(store.study_text(first)))
    assert again.box == first.box
    assert list(again.box.cells()) == list(first.box.cells())  # type: ignore[union-attr]


@pytest.mark.parametrize(
    ("data", "key"),
    [
        (3, "box"),
        ({"axis": {}}, "box.axis"),
        ({"axes": {}}, "box.axes"),
        ({"axes": {"recipe.group": []}}, "box.axes.recipe.group"),
        ({"axes": {"recipe.group": [4, 4]}}, "box.axes.recipe.group"),
        ({"axes": {"recipe.group": 4}}, "box.axes.recipe.group"),
        ({"axes": {"a": {"x": 1}}}, "box.axes.a.x"),
        ({"axes": {"recipe.group": [4]}, "seeds": 0}, "box.seeds"),
        ({"axes": {"recipe.group": [4]}, "seeds": "many"}, "box.seeds"),
    ],
)
def test_mistakes_are_named(data: Any, key: str) -> None:
    with pytest.raises(BadInput) as caught:
        parse_box(data)
    assert caught.value.key == key


def test_a_cell_that_cannot_run_is_found_before_any_training() -> None:
    before = traces()
    with pytest.raises(BadInput, match="modes"):
        run_box(phenomenon(), study({"axes": {"environment.modes": [2, 9]}}))
    assert traces() == before


@pytest.mark.slow
def test_every_configured_box_can_be_built() -> None:
    from functools import reduce

    from jaxrl_lab import phenomena

    for name in phenomena.names():
        whole = phenomena.load_study(name, "verdict")
        assert whole.box is not None, name
        assert int(np.prod(whole.box.shape)) >= 81, name
        cells = list(whole.box.cells())
        for changes in (cells[0], cells[-1]):
            cell = reduce(lambda s, c: s.with_setting(*c), changes.items(), whole)
            for experiment in cell.experiments.values():
                experiment.build()
