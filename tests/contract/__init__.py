"""One suite for every engine: each test here runs over each provider in ``providers.py``."""
