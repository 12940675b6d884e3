"""Templates of generated sources, and the one loader that renders them.

Text with few hooks: what to write is decided by the caller, so that a template holds no decision.
Imported as `graphc.templates`.
"""

import functools
from typing import Any

import jinja2


@functools.cache
def environment() -> jinja2.Environment:
    """Return the shared environment: undefined names fail, and a block's own line leaves no blank."""
    return jinja2.Environment(
        loader=jinja2.PackageLoader(__name__, package_path=""),
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
        autoescape=False,
    )


def render(name: str, **context: Any) -> str:
    """Render the template `name`, a path below this folder such as `cpp/program.cpp.j2`.

    Raises:
        jinja2.TemplateNotFound: no such template.
        jinja2.UndefinedError: the template reads a name that `context` does not hold.
    """
    return environment().get_template(name).render(context)
