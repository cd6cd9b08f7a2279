"""Commands whose options are fields of dataclasses: a group of options is written once and passed on as one value.

The first line of a dataclass is the heading of its options in the help.
"""

import copy
import dataclasses
import functools
import inspect
import itertools
import os
import re
from collections.abc import Callable
from typing import Annotated, Any, get_type_hints

import typer
from typer.core import TyperCommand

from sr_tile.cli.options import parsed
from sr_tile.errors import ArgumentError
from sr_tile.system import stopping


def grouped(function: Callable[..., None]) -> Callable[..., None]:
    """A function for `typer.Typer.command`: each parameter that is a dataclass becomes its fields.

    Args:
        function: its annotations are types, not strings; fields of the dataclasses are annotated as typer wants them.
    """
    parameters = inspect.signature(function).parameters
    groups: dict[str, Any] = {
        name: kind for name, kind in get_type_hints(function).items() if dataclasses.is_dataclass(kind)
    }
    flat: list[inspect.Parameter] = []
    for name, parameter in parameters.items():
        if name in groups:
            flat += _options(groups[name])
        else:
            flat.append(parameter.replace(kind=inspect.Parameter.KEYWORD_ONLY))

    @functools.wraps(function)
    def command(**values: Any) -> None:
        for name, group in groups.items():
            own = {field.name: values.pop(field.name) for field in dataclasses.fields(group)}
            values[name] = group(**own)
        function(**values)

    command.__signature__ = inspect.Signature(flat)  # type: ignore[attr-defined]
    command.__annotations__ = {parameter.name: parameter.annotation for parameter in flat}
    return command


def _options(group: Any) -> list[inspect.Parameter]:
    hints = get_type_hints(group, include_extras=True)
    heading = str(group.__doc__).partition("\n")[0].rstrip(".")

    def headed(kind: Any) -> Any:
        option = copy.copy(kind.__metadata__[0])  # several groups and commands may have it
        option.rich_help_panel = heading
        return Annotated[kind.__origin__, option]

    return [
        inspect.Parameter(
            field.name, inspect.Parameter.KEYWORD_ONLY, default=field.default, annotation=headed(hints[field.name])
        )
        for field in dataclasses.fields(group)
    ]


_KINDS = {"str": "TEXT", "list[str]": "TEXT", "int": "N", "int range": "N", "float": "NUMBER", "float range": "NUMBER"}
"""How the help calls types that typer names as Python does."""


UsageError: Any = typer.BadParameter.__base__  # click's own, or that of the click which newer versions of typer carry


class StrictCommand(TyperCommand):
    """Refuses an option that is given twice where only one value counts: the last would win without a word.

    Its help has the options under the headings of their groups. Whatever it runs finds no more memory than is free, or than
    --mem-limit leaves; a server, which outlives what is free when it starts, than --mem-limit leaves. Ray's
    processes would inherit a limit, and die of it: there is none with Ray.
    """

    def invoke(self, ctx: Any) -> Any:
        """As click does it, in bounded memory where the process is our own."""
        if stopping.installed() and ctx.params.get("engine") != "ray":
            from sr_tile.system import memory

            limit = ctx.params.get("mem_limit")
            limits = [] if limit is None else [parsed("--mem-limit", memory.parse_size, limit)]
            limits += [memory.free_ram()] if self.name != "serve" else []
            if limits:
                memory.refuse_beyond(min(limits))
        return super().invoke(ctx)

    def collect_usage_pieces(self, ctx: Any) -> list[str]:
        """Arguments as they were written for the help, without a second pair of brackets."""
        arguments = [each for each in self.get_params(ctx) if each.param_type_name == "argument"]
        pieces = ([each.metavar] if each.metavar else each.get_usage_pieces(ctx) for each in arguments)
        return ["[OPTIONS]", *itertools.chain.from_iterable(pieces)]

    def format_options(self, ctx: Any, formatter: Any) -> None:
        """As typer does it, with a section for each group."""
        sections: dict[str, list[tuple[str, str]]] = {}
        for parameter in self.get_params(ctx):
            if record := parameter.get_help_record(ctx):
                names = re.sub(
                    r"<([a-z]+( range)?|list\[str\])>", lambda kind: _KINDS.get(kind[1], kind[1].upper()), record[0]
                )
                if parameter.param_type_name == "argument":
                    heading, names = "Arguments", parameter.metavar or names
                else:
                    heading = getattr(parameter, "rich_help_panel", None) or "Options"
                sections.setdefault(heading, []).append((names, record[1]))
        for heading, records in sections.items():
            with formatter.section(heading):
                formatter.write_dl(records)

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """As click does it, after a look at how often each option was given."""
        try:
            _, _, order = self.make_parser(ctx).parse_args(args=list(args))
        except UsageError as error:
            error.ctx = error.ctx or ctx
            for name in args:
                if name.startswith("-") and os.path.lexists(name):
                    raise ArgumentError(f"{name} is taken for an option; for the file write ./{name}") from None
            raise
        for option in self.get_params(ctx):
            single = option.param_type_name == "option" and not option.multiple and not option.is_flag  # type: ignore[attr-defined]
            if single and sum(given is option for given in order) > 1:
                raise typer.BadParameter("given more than once; give it once", ctx=ctx, param=option)  # type: ignore[arg-type]
        return super().parse_args(ctx, args)
