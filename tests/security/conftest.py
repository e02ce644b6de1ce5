"""Fixtures of the security tests: the pages' browser besides the API's client."""

from __future__ import annotations

from tests.pages.conftest import alpha, browser, stranger

__all__ = ["alpha", "browser", "stranger"]
