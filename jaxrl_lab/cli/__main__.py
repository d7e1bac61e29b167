"""``python -m jaxrl_lab.cli``."""

from jaxrl_lab.cli import main

main()
