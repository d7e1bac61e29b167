"""What is imported when: light until used, whole when everything is there, and without gymnax."""

from __future__ import annotations

import ast
import importlib
import pkgutil
import subprocess
import sys
from pathlib import Path

import jaxrl_envs
import pytest

import jaxrl_lab

HEAVY = ("jax", "matplotlib", "gymnax", "flax", "optax", "xarray", "pandas", "scipy")
BROKEN_GYMNAX = """
import sys
class Broken:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] == "gymnax":
            raise ImportError("gymnax is broken today")
sys.meta_path.insert(0, Broken())
"""


def python(code: str) -> str:
    """What a fresh interpreter prints."""
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=300, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def loaded(code: str) -> set[str]:
    """Which heavy packages are in memory after ``code``."""
    show = f"\nimport sys; print(*[m for m in {HEAVY!r} if m in sys.modules])"
    return set(python(code + show).split("\n")[-1].split())


@pytest.mark.parametrize(
    "code",
    [
        "import jaxrl_lab",
        "import jaxrl_envs",
        "import jaxrl_lab; jaxrl_lab.__version__; dir(jaxrl_lab)",
        "import jaxrl_lab.cli",
        "from jaxrl_lab import config; config.folder()",
    ],
)
def test_nothing_heavy_is_imported_before_it_is_used(code: str) -> None:
    assert loaded(code) == set()


def test_a_world_needs_no_learner_and_a_recipe_needs_no_figure() -> None:
    world = "import jaxrl_envs; jaxrl_envs.make('bandit/modes')"
    assert not loaded(world) & {"gymnax", "matplotlib", "optax", "xarray", "flax"}
    recipe = "import jaxrl_lab as lab; print(lab.recipe('grpo'))"
    assert not loaded(recipe) & {"gymnax", "matplotlib", "xarray"}


def stub(package: object) -> list[str]:
    """The public names of a ``.pyi`` beside a package."""
    file = Path(package.__file__).with_suffix(".pyi")  # type: ignore[attr-defined]
    names = []
    for node in ast.parse(file.read_text(encoding="utf-8")).body:
        if isinstance(node, ast.ImportFrom):
            names += [alias.asname or alias.name for alias in node.names]
        elif isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
            names.append(node.target.id)
    return names


@pytest.mark.parametrize("package", [jaxrl_lab, jaxrl_envs], ids=lambda p: p.__name__)
def test_every_public_name_resolves(package: object) -> None:
    names = stub(package)
    assert len(names) > 10
    assert len(set(names)) == len(names)
    for name in names:
        assert getattr(package, name) is not None, name
    shown = set(dir(package))
    assert {n for n in names if not n.startswith("__")} <= shown


def test_the_names_of_the_front_door() -> None:
    for name in ("run", "train", "sweep", "debug", "load", "recipe", "pretrain", "mechanism"):
        assert callable(getattr(jaxrl_lab, name)), name
    with pytest.raises(AttributeError):
        jaxrl_lab.trian  # type: ignore[attr-defined]  # noqa: B018


def modules() -> list[str]:
    found = []
    for package in (jaxrl_lab, jaxrl_envs):
        walk = pkgutil.walk_packages(package.__path__, package.__name__ + ".")
        found += [m.name for m in walk if not m.name.endswith("__main__")]
    return sorted(found)


def test_every_module_can_be_imported_and_says_what_it_is() -> None:
    assert len(modules()) > 40
    for name in modules():
        assert importlib.import_module(name).__doc__, f"{name} has no docstring"


def test_a_broken_gymnax_breaks_its_adapters_only() -> None:
    code = f"""{BROKEN_GYMNAX}
import importlib, jaxrl_lab as lab, jaxrl_envs
for name in {modules()!r}:
    importlib.import_module(name)
for package in (lab, jaxrl_envs):
    for name in dir(package):
        getattr(package, name)
print(jaxrl_envs.make("gridworld/two_goals").horizon)
try:
    jaxrl_envs.make("gymnax/CartPole-v1")
except jaxrl_envs.BadInput as error:
    print(error)
"""
    assert "broken today" in python(code).splitlines()[-1]


def test_statistics_are_there_without_anything_else() -> None:
    assert (
        python("import jaxrl_lab as lab; print(lab.statistics.iqm([1.0, 2.0, 9.0, 2.0]))") == "2.0"
    )
