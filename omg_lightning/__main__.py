"""`python -m omg_lightning` is the command line."""

from omg_lightning.cli import main

main()
