"""`--recipe FILE`: the options of a run in one YAML file, read for the next run and known of this one."""

from pathlib import Path
from typing import Any

import typer

ELSEWHERE = ("recipe", "out", "overwrite", "dry_run", "as_json", "help")  # where a run writes, and what it shows


def take_recipe(ctx: typer.Context, path: Path | None) -> Path | None:
    """Let a recipe give the options that are not typed.

    Raises: TenfoldError for what is no mapping of options of this command.
    """
    from tenfold.documents import text_of, yaml_values
    from tenfold.protocols import TenfoldError, near_misses, within

    if path is None:
        return None
    text = text_of(path)
    with within(f"'{path}'"):
        given = yaml_values(text)
        if not isinstance(given, dict):
            raise TenfoldError("it is no recipe, which has lines such as `params: 4x`.")
        options: dict[str, Any] = {str(option.name): option for option in ctx.command.params}
        known = [name for name in options if name not in ELSEWHERE]
        for name, value in given.items():
            if name in ELSEWHERE and name in options:
                raise TenfoldError(f"'{name}' is no part of a recipe; type it.")
            if name not in known:
                raise TenfoldError(f"tenfold {ctx.command.name} has no option '{name}'{near_misses(name, known)}")
            several = getattr(options[name], "multiple", False)
            if isinstance(value, dict) or (isinstance(value, list) and not several):
                raise TenfoldError(f"'{name}' is {value!r:.60}, where one value belongs.")
            if several and not isinstance(value, list):
                given[name] = [value]
            try:
                options[name].process_value(ctx, given[name])
            except typer.BadParameter as error:
                raise TenfoldError(f"'{name}' is {value!r:.60}: {error.message.rstrip('.')}.") from error
    ctx.default_map = given
    return path


def recipe_of(ctx: typer.Context) -> dict[str, Any]:
    """The options of this run, typed or from a recipe or by default, but for those that nobody gave."""
    names = [str(option.name) for option in ctx.command.params if option.name not in ELSEWHERE]
    options = {name: ctx.params[name] for name in names if ctx.params[name] not in (None, (), [])}
    return {name: str(value) if isinstance(value, Path) else value for name, value in options.items()}
