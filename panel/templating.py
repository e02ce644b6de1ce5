"""Jinja as pages need it: made of many small templates that import one another, with thousands of values and calls.

Each of the classes does what Jinja's does, in the cases that pages are made of at a fraction of the cost.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from contextlib import suppress
from importlib.metadata import version
from pathlib import Path
from types import FunctionType
from typing import Any, cast

from jinja2 import Environment, FileSystemBytecodeCache, Template, nodes
from jinja2.bccache import Bucket
from jinja2.compiler import CodeGenerator, Frame
from jinja2.environment import TemplateModule
from jinja2.runtime import Context, Macro
from jinja2.utils import internalcode
from markupsafe import Markup, _escape_inner, escape  # type: ignore[attr-defined]

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


class PanelContext(Context):
    """Macros and plain functions are called without the search for what else could be callable."""

    @internalcode
    def call(self, function: Any, /, *args: Any, **kwargs: Any) -> Any:
        """Jinja's, which passes the context or the environment to who asks for it."""
        kind = type(function)
        if kind is not Macro and (kind is not FunctionType or hasattr(function, "jinja_pass_arg")):
            return super().call(function, *args, **kwargs)
        kwargs.pop("_loop_vars", None)
        kwargs.pop("_block_vars", None)
        return function(self.eval_ctx, *args, **kwargs) if kind is Macro else function(*args, **kwargs)


class PanelCode(CodeGenerator):
    """Values are written by ``PanelEnvironment.written``."""

    def _output_child_pre(self, node: nodes.Expr, frame: Frame, finalize: Any) -> None:
        if frame.eval_ctx.volatile or not frame.eval_ctx.autoescape or finalize.src is not None:
            super()._output_child_pre(node, frame, finalize)
        else:
            self.write("environment.written(")


class CompiledTemplates(FileSystemBytecodeCache):
    """What templates were compiled to, kept from one start to the next. A folder that cannot be written is done without; what
    another Jinja or another state of this module made is made anew."""

    def __init__(self, folder: Path) -> None:
        with suppress(OSError):
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        super().__init__(str(folder))
        self._maker = version("jinja2").encode() + Path(__file__).read_bytes()

    def get_source_checksum(self, source: str) -> str:
        """Of the source and of what compiles it."""
        return hashlib.sha256(self._maker + source.encode()).hexdigest()

    def load_bytecode(self, bucket: Bucket) -> None:
        """What was kept, if there is any."""
        with suppress(OSError):
            super().load_bytecode(bucket)

    def dump_bytecode(self, bucket: Bucket) -> None:
        """Keep it, if that can be done."""
        with suppress(OSError):
            super().dump_bytecode(bucket)


class PanelEnvironment(Environment):
    """An environment of all these."""

    template_class = PanelTemplate
    context_class = PanelContext
    code_generator_class = PanelCode

    @staticmethod
    def written(value: Any) -> str:
        """MarkupSafe's ``escape``, without a ``Markup`` around what is joined to the page's text at once."""
        kind = type(value)
        if kind is str:
            return _escape_inner(value)
        return value if kind is Markup else escape(value)
