"""Entry point: `python -m scorefield COMMAND`."""

from .cli import main

main()
