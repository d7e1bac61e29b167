"""Configuration files are data: whatever they contain, one clear complaint or plain data."""

from __future__ import annotations

import copy
from contextlib import suppress

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from jaxrl_envs import BadInput

from jaxrl_lab import config
from jaxrl_lab.experiments import store
from jaxrl_lab.phenomena.studies import as_study, in_tier
from jaxrl_lab.recipes import from_mapping

REFUSED = {
    "duplicate": ("a: 1\nb: 2\na: 3\n", "'a' appears twice at line 3"),
    "nested duplicate": ("a: {b: 1, b: 2}", "'b' appears twice"),
    "alias": ("a: &x [1]\nb: *x\n", "anchors are not allowed at line 2"),
    "bomb": ("a: &a [x, x]\nb: &b [*a, *a]\nc: [*b, *b]\n", "anchors"),
    "merge": ("<<: {a: 1}", "tag"),
    "object": ("a: !!python/object/apply:os.system ['true']", "tag"),
    "name": ("a: !!python/name:os.system", "tag"),
    "own tag": ("a: !thing 1", "tag"),
    "number as key": ("1: a", "is not text"),
    "list as key": ("? [a]\n: 1", "is not text"),
    "list": ("- a\n- b", "a mapping of keys to values"),
    "text": ("hello", "a mapping of keys to values"),
    "nothing": ("", "a mapping of keys to values"),
    "unclosed": ("a: [1, 2", "valid YAML"),
    "two documents": ("a: 1\n---\nb: 2\n", "valid YAML"),
    "control character": ("a: \x01", "valid YAML"),
    "deep": ("[" * 5000, "nested too deeply"),
    "month 99": ("a: 2020-99-99", "valid YAML"),
    "no hex digits": ("a: 0x_", "valid YAML"),
    "no binary digits": ("a: 0b_", "valid YAML"),
    "5000 digits": ("a: " + "1" * 5000, "valid YAML"),
    "not an integer": ("a: !!int abc", "valid YAML"),
    "not a boolean": ("a: !!bool abc", "valid YAML"),
    "not a date": ("a: !!timestamp abc", "valid YAML"),
    "not a mapping": ("a: !!map abc", "valid YAML"),
}


@pytest.mark.parametrize(("text", "why"), REFUSED.values(), ids=list(REFUSED))
def test_bad_yaml_is_refused_with_the_place_and_the_reason(text, why):
    with pytest.raises(BadInput, match=why) as caught:
        config.parse_yaml(text, "some.yaml")
    assert caught.value.key == "some.yaml"
    assert "\n" not in str(caught.value)


def test_good_yaml_is_read_and_written_without_loss():
    data = {"a": 1, "b": [1.5, "x", None, True], "c": {"d": {}, "ε": "−"}}
    assert config.parse_yaml(config.dump_yaml(data), "x") == data


@pytest.mark.parametrize(
    ("make", "why"),
    [
        (lambda p: None, "No such file"),
        (lambda p: p.mkdir(), "directory"),
        (lambda p: p.write_bytes(b"a: \xff\xfe"), "UTF-8"),
        (lambda p: p.write_bytes(bytes(range(256))), "UTF-8"),
        (lambda p: p.write_text("a: 1\n" + "#" * config.LARGEST), "at most 1000000 bytes"),
    ],
    ids=["missing", "directory", "latin", "binary", "oversize"],
)
def test_unreadable_files_are_refused_by_name(tmp_path, make, why):
    path = tmp_path / "some.yaml"
    make(path)
    with pytest.raises(BadInput, match=why) as caught:
        config.read_yaml(path)
    assert "some.yaml" in str(caught.value)


def test_a_null_byte_in_a_path_is_refused(tmp_path):
    with pytest.raises(BadInput):
        config.read_yaml(tmp_path / "a\0b")


def test_values_from_a_command_line():
    got = [
        config.parse_value(t) for t in ("0.3", "[1, 2]", "grpo", "null", "[1,", "0x_", "a: b: c")
    ]
    assert got == [0.3, [1, 2], "grpo", None, "[1,", "0x_", "a: b: c"]


yamlish = st.text(
    st.sampled_from("abe01_.:-+{}[]!&*<>?|%@`'\"#, \n\t\0xy=~é"), max_size=40
) | st.text(max_size=30)


@settings(max_examples=400, deadline=None)
@given(yamlish)
@example("a: 2001-02-30")
@example("a: 1:60e9")
@example("!!omap [a]")
@example("%YAML 9.9\n--- a")
def test_any_text_is_data_or_one_complaint(text):
    with suppress(BadInput):
        assert isinstance(config.parse_yaml(text, "x"), dict)
    config.parse_value(text)


def test_values_of_an_axis_from_a_command_line():
    got = {t: config.parse_values(t) for t in ("0.2,0.4", "[32],[32, 32]", "a: 1,b", "[1", "")}
    assert list(got.values()) == [[0.2, 0.4], [[32], [32, 32]], [{"a": 1}, "b"], ["[1"], []]


plain = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-3, 3)
    | st.floats()
    | st.sampled_from(["grpo", "clip", "linear", "x"]),
    lambda x: (
        st.lists(x, max_size=2)
        | st.dictionaries(
            st.sampled_from(["clip", "low", "linear", "start", "end", "sgd"]), x, max_size=2
        )
    ),
    max_leaves=5,
)
entries = st.sampled_from(
    ["base", "group", "surrogate", "surrogate.high", "optimizer", "rollout", "name", "", "."]
)


@settings(max_examples=400, deadline=None)
@given(st.dictionaries(entries, plain, max_size=3))
@example({"base": ["grpo"]})
@example({"surrogate": 5})
@example({"surrogate": {"clip": {"low": {"linear": 3}}}})
def test_any_plain_data_is_a_recipe_or_one_complaint(data):
    with suppress(BadInput):
        assert str(from_mapping(data))


SHIPPED = config.read_yaml(config.folder() / "entropy_collapse.yaml")
OWN = {"environment": {"id": "bandit/modes"}, "recipe": {"group": 4}, "updates": 4, "seeds": 2}


@st.composite
def damaged(draw):
    """A configuration that was right, with one entry anywhere replaced, removed or renamed."""
    data = copy.deepcopy(draw(st.sampled_from([SHIPPED, OWN])))
    place = data
    while True:
        key = draw(st.sampled_from(sorted(place)))
        inner = place[key]
        if not isinstance(inner, dict) or not inner or draw(st.booleans()):
            break
        place = inner
    how = draw(st.sampled_from(["replace", "remove", "rename"]))
    value = place.pop(key)
    if how == "replace":
        place[key] = draw(plain)
    elif how == "rename":
        place[draw(st.text("abc.@/ ", max_size=5)) + key] = value
    return data


@settings(max_examples=300, deadline=None)
@given(damaged(), st.sampled_from(["quick", "default", "verdict"]))
def test_a_damaged_configuration_is_a_study_or_one_complaint(data, tier):
    with suppress(BadInput):
        study = as_study(data)
        study = in_tier(study, tier) if "tiers" in study else store.parse_study(study)
        text = store.study_text(study)
        assert store.parse_study(config.parse_yaml(text, "x")).experiments == study.experiments
