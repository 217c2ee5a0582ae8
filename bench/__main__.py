"""Entry point: `python -m bench COMMAND` from the repository's root."""

from .app import benchmark

benchmark()
