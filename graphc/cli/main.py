"""The command `graphc`: finds the subcommand, runs it, and turns every end into an exit code.

    0 success   1 the user's model is wrong   2 wrong usage   3 numbers differ
    4 a toolchain or device is missing   70 a defect in graphc   130 interrupted   141 the reader of stdout left

A subcommand is a click command in a module of its own, imported when it is called. It returns None, or its
exit code; what goes wrong it raises.
"""

import importlib
import os
import sys
from collections.abc import Sequence
from typing import Any, NoReturn

import click

from graphc import __version__
from graphc.diagnostics import EXIT_BUG, GraphcError, closest

EXIT_INTERRUPTED = 130
EXIT_BROKEN_PIPE = 141

# Name -> (module:command, one line of help). The help stands here so that listing commands imports none.
COMMANDS: dict[str, tuple[str, str]] = {
    "run": ("graphc.cli.run:run", "Compile a model and run it once."),
    "dump": ("graphc.cli.dump:dump", "Print a stage of a model: symbol, graph, ..., source, plan."),
    "bench": ("graphc.cli.bench:bench", "Measure each kernel, and the program beside torch."),
    "tune": ("graphc.cli.tune:tune", "Measure alternatives for each kernel and write a file of choices."),
    "explain": ("graphc.cli.explain:explain", "Explain an error code, or why kernels were fused or not."),
    "doctor": ("graphc.cli.doctor:doctor", "Show compilers, GPU, versions and the cache."),
}


class LazyGroup(click.Group):
    """A group whose commands are imported when they are called."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in COMMANDS:
            return None
        module, _, attribute = COMMANDS[cmd_name][0].partition(":")
        command = getattr(importlib.import_module(module), attribute)
        assert isinstance(command, click.Command)
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        name = args[0]
        if name not in COMMANDS and not name.startswith("-"):
            hint = closest(name, list(COMMANDS)) or f"commands are {', '.join(COMMANDS)}"
            raise click.UsageError(f"no command {name!r}; {hint}", ctx)
        return super().resolve_command(ctx, args)

    def invoke(self, ctx: click.Context) -> Any:
        try:
            result = super().invoke(ctx)
            sys.stdout.flush()
        except BrokenPipeError:
            # Whatever is still buffered has no reader; without this, Python complains about it at exit.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            return EXIT_BROKEN_PIPE
        return result

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl([(name, help_line) for name, (_, help_line) in COMMANDS.items()])


@click.group(
    cls=LazyGroup, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110}
)
@click.version_option(__version__, "-V", "--version", prog_name="graphc")
def graphc() -> None:
    """Compile declared Symbol graphs to fused C++ and Triton kernels.

    A MODEL is addressed as file.py:attribute or package.module:attribute. Data goes to stdout, talk to stderr.
    """


def main(arguments: Sequence[str] | None = None) -> NoReturn:
    """Run the command line and exit; `arguments` default to the process's own."""
    arguments = sys.argv[1:] if arguments is None else list(arguments)
    sys.exit(exit_code_of(arguments))


def exit_code_of(arguments: Sequence[str]) -> int:
    """Run one command and return its exit code; only a diagnostic reaches stderr, never a traceback."""
    try:
        return int(graphc.main(list(arguments), prog_name="graphc", standalone_mode=False) or 0)
    except GraphcError as error:
        headline, _, rest = str(error).partition("\n")
        click.echo(click.style(headline, fg="red", bold=True), err=True)
        if rest:
            click.echo(rest, err=True)
        return error.exit_code
    except click.ClickException as error:
        error.show()
        return error.exit_code
    except (click.Abort, KeyboardInterrupt):
        click.echo("interrupted", err=True)
        return EXIT_INTERRUPTED
    except Exception as error:
        return _report_defect(error, arguments)


def _report_defect(error: Exception, arguments: Sequence[str]) -> int:
    from graphc.cli.defect import write_bundle

    click.echo(
        click.style(f"defect in graphc: {type(error).__name__}: {error}", fg="red", bold=True), err=True
    )
    click.echo(write_bundle(error, arguments), err=True)
    return EXIT_BUG
