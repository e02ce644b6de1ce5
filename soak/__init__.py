"""Runs that a panel must survive: ``make soak``. See ``soak/README.md``."""
