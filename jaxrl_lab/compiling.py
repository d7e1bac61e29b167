"""How XLA is asked for little optimization, where it would take longer than the program runs.

Nothing of jax is imported here: flags have to stand before it starts.
"""

from __future__ import annotations

from importlib.metadata import version

CHEAPLY: dict[str, str | bool] = {
    "xla_backend_optimization_level": "0",
    "xla_llvm_disable_expensive_passes": True,
}
"""Compiler options of one program."""
THOROUGHLY: dict[str, str | bool] = {"xla_backend_optimization_level": "3"}
"""XLA's own choice, for a program that runs long even where the others are compiled cheaply."""


def cheap_flags() -> list[str]:
    """Flags for all of a process, with which XLA compiles in a third of the time."""
    # A module in parts, for several threads, is more work, and programs are compiled side by side.
    options = CHEAPLY | {"xla_cpu_parallel_codegen_split_count": "1"}
    if tuple(int(n) for n in version("jaxlib").split(".")[:2]) < (0, 11):
        # Later versions have no other emitters; an unknown flag would end the process.
        options["xla_cpu_use_fusion_emitters"] = False
    return [f"--{name}={str(value).lower()}" for name, value in options.items()]
