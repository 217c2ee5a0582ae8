"""python -m scorefield"""

from .cli import main

main()
