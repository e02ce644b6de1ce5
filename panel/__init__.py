"""OpenIDCS Panel: one browser page and one JSON API over every hypervisor an operator owns."""

__version__ = "0.1.0"
