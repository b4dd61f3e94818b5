"""The program `tenfold`: its commands, and how errors leave it."""

import logging
import shlex
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from tenfold.cli.compress import compress
from tenfold.cli.demo import demo
from tenfold.cli.evaluate import evaluate
from tenfold.cli.export import export
from tenfold.cli.inspect import inspect
from tenfold.cli.plan import plan
from tenfold.cli.recover import recover
from tenfold.cli.train import train
from tenfold.cli.typed import COMMAND

HELP = """Trained PyTorch networks several times smaller: every weight a tensor network, under a budget, measured.

MODEL is a network of the zoo (resnet20), a function that returns one (net.py:build, package.module:build), or a folder
that tenfold wrote."""


UsageError: Any = typer.BadParameter.__base__  # click's, which typer brings along in some versions


class Commands(TyperGroup):
    """All commands; an error of the user's is one sentence and exit code 2, a stop by the keyboard exit code 130."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        COMMAND.set(shlex.join(["tenfold", *args]))
        return super().parse_args(ctx, args)

    def invoke(self, ctx: Any) -> Any:
        try:
            return super().invoke(ctx)
        except UsageError as error:
            where = (error.ctx or ctx).command_path
            typer.echo(f"error: {error.format_message().rstrip('.')}; {where} -h says what there is.", err=True)
            raise typer.Exit(2) from None
        except KeyboardInterrupt:
            typer.echo("stopped; nothing was written.", err=True)
            raise typer.Exit(130) from None
        except ValueError as error:
            from tenfold.protocols import TenfoldError

            if not isinstance(error, TenfoldError):
                raise
            typer.echo(f"error: {error}", err=True)
            raise typer.Exit(2) from None


app = typer.Typer(
    name="tenfold",
    cls=Commands,
    help=HELP,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def show_version(wanted: bool) -> None:
    """Print the version and end."""
    if wanted:
        from importlib.metadata import version

        typer.echo(f"tenfold {version('tenfold')}")
        raise typer.Exit


@app.callback()
def options(
    version: Annotated[
        bool, typer.Option("--version", callback=show_version, is_eager=True, help="Print the version and end.")
    ] = False,
    verbose: Annotated[
        bool, typer.Option("-v", "--verbose", help="Say on standard error what is done to every layer.")
    ] = False,
    quiet: Annotated[
        bool, typer.Option("-q", "--quiet", help="Results and errors only: no bar, no notes, no warnings.")
    ] = False,
) -> None:
    """What holds for every command."""
    log = logging.getLogger("tenfold")
    log.handlers = [handler for handler in log.handlers if not isinstance(handler, Said)]
    log.addHandler(Said())
    log.setLevel(logging.ERROR if quiet else logging.INFO if verbose else logging.WARNING)


class Said(logging.Handler):
    """Log records as lines on standard error."""

    def emit(self, record: logging.LogRecord) -> None:
        typer.echo(self.format(record), err=True)


for command in (inspect, plan, compress, train, recover, evaluate, export, demo):
    app.command()(command)


def main() -> None:
    """The console's entry point."""
    app()
