"""``python -m panel`` is ``openidcs``."""

from panel.cli import main

main(prog_name="openidcs")
