"""Jinja as pages need it: a page is made of many small templates that import one another."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, cast

from jinja2 import Environment, Template
from jinja2.environment import TemplateModule

MODULES = "modules_of_this_page"  # in a page's context: what its templates import, by name


class PanelTemplate(Template):
    """A template that is imported with the context is evaluated once for a page, not by each template that imports it: all
    see the page's context, and none its importer's own variables."""

    def make_module(
        self,
        vars: dict[str, Any] | None = None,  # noqa: A002 - as Jinja calls them
        shared: bool = False,
        locals: Mapping[str, Any] | None = None,  # noqa: A002
    ) -> TemplateModule:
        """Jinja's, kept in the context under ``MODULES`` where that is a dict."""
        known = (vars or {}).get(MODULES)
        if known is None:
            return super().make_module(vars, shared, locals)
        if self.name not in known:
            known[self.name] = super().make_module(vars, shared)
        return cast(TemplateModule, known[self.name])


class PanelEnvironment(Environment):
    """An environment of such templates."""

    template_class = PanelTemplate
