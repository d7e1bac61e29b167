"""Programs compiled ahead, and given up."""

import threading

import jax
import pytest

from jaxrl_lab import programs


def test_work_ahead_has_its_arguments_and_its_result() -> None:
    assert programs.run_ahead(divmod, 7, 2).result() == (3, 1)
    with pytest.raises(ZeroDivisionError):
        programs.run_ahead(divmod, 7, 0).result()


@pytest.mark.parametrize("busy", range(1, programs.COMPILERS + 1))
def test_programs_are_given_up_when_nobody_compiles(
    busy: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """jax's caches must not grow while they are cleared."""
    seen: list[str] = []
    begun = threading.Semaphore(0)
    finish = threading.Event()

    def compiling() -> None:
        begun.release()
        finish.wait(60)
        seen.append("compiled")

    monkeypatch.setattr(programs, "MOST_MAPS", 0)
    monkeypatch.setattr(jax, "clear_caches", lambda: seen.append("cleared"))
    jobs = [programs.run_ahead(compiling) for _ in range(busy)]
    for _ in jobs:
        assert begun.acquire(timeout=60)
    forgetting = threading.Thread(target=programs.forget_programs)
    forgetting.start()
    forgetting.join(0.2)
    assert seen == []
    finish.set()
    forgetting.join(60)
    assert seen == ["compiled"] * busy + ["cleared"]
    assert programs.run_ahead(int, "1").result(60) == 1
