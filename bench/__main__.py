"""Entry point: `python -m bench COMMAND` from the root of the repository."""

from .app import main

if __name__ == "__main__":  # a spawned worker imports this module and must not run the command
    main()
