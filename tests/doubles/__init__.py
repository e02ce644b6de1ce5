"""Stateful doubles of vendors' servers: they take what the vendor's schema takes, and refuse what the vendor refuses."""
