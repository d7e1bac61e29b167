"""The command line: a thin skin over ``lab.*``.

Nothing of jax is imported before a command needs it, so that help is there at once. A mistake
gets one line on stderr and exit code 2.
"""

from __future__ import annotations

import gc
import os
import sys
from typing import NoReturn

import click
from jaxrl_envs.errors import BadInput

from jaxrl_lab.atlas.command import atlas
from jaxrl_lab.cli.bench import bench
from jaxrl_lab.cli.doctor import doctor
from jaxrl_lab.cli.lists import list_
from jaxrl_lab.cli.runs import InterruptError, LostProcessError, plot, resume, run
from jaxrl_lab.cli.sweeps import sweep


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(package_name="jaxrl-lab")
def cli() -> None:
    """A laboratory for the dynamics of reinforcement learning at small scale."""


for _command in (list_, run, sweep, resume, plot, atlas, bench, doctor):
    cli.add_command(_command)


def main() -> None:
    """Entry point: usage errors and bad input are one line and exit code 2."""
    try:
        code = cli.main(sys.argv[1:] or ["--help"], standalone_mode=False)
    except BadInput as error:
        _fail(str(error))
    except click.UsageError as error:
        _fail(_usage(error))
    except click.ClickException as error:
        _fail(error.format_message())
    except LostProcessError as error:
        _leave(f"jaxrl-lab: {error}", 1)
    except (click.Abort, KeyboardInterrupt, InterruptError) as error:
        how = error if isinstance(error, InterruptError) else "nothing was written"
        _leave(f"interrupted; {how}", 130)
    gc.freeze()  # the process ends: a last collection would only take a second
    sys.exit(code if isinstance(code, int) else 0)


def _leave(message: str, code: int) -> NoReturn:
    """End now: a compile under way, or a process that is gone, would otherwise be waited for."""
    click.echo(message, err=True)
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


def _usage(error: click.UsageError) -> str:
    text = error.format_message().replace("\n", " ")
    if isinstance(error, click.NoSuchOption) or "No such command" not in text or not error.ctx:
        return text
    name = text.split("'")[1]
    return str(BadInput("command", name, "a command", sorted(cli.commands)))


def _fail(message: str) -> NoReturn:
    text = f"jaxrl-lab: {' '.join(message.splitlines())}"
    jax = sys.modules.get("jax")
    if jax is not None and jax.distributed.is_initialized():  # the others would be waited for
        _leave(text, 2)
    click.echo(text, err=True)
    sys.exit(2)
