"""OpenIDCS Panel: one browser page and one JSON API over every hypervisor an operator owns."""

import gc as _gc

__version__ = "0.1.0"

_gc.set_threshold(50_000, 20, 50)  # importing makes much that stays; panel.app lowers this when it serves
