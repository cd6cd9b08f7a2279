"""Commands whose options are fields of dataclasses: a group of options is written once and passed on as one value."""

import dataclasses
import functools
import inspect
from collections.abc import Callable
from typing import Any, get_type_hints

import typer
from typer.core import TyperCommand


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
    return [
        inspect.Parameter(
            field.name, inspect.Parameter.KEYWORD_ONLY, default=field.default, annotation=hints[field.name]
        )
        for field in dataclasses.fields(group)
    ]


class StrictCommand(TyperCommand):
    """Refuses an option that is given twice where only one value counts: the last would win without a word."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """As click does it, after a look at how often each option was given."""
        _, _, order = self.make_parser(ctx).parse_args(args=list(args))
        for option in self.get_params(ctx):
            single = option.param_type_name == "option" and not option.multiple and not option.is_flag  # type: ignore[attr-defined]
            if single and sum(given is option for given in order) > 1:
                raise typer.BadParameter("given more than once; give it once", ctx=ctx, param=option)  # type: ignore[arg-type]
        return super().parse_args(ctx, args)
