"""Mutated bytes for everything of the panel that reads foreign ones: ``make fuzz``."""
