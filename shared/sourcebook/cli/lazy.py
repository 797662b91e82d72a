"""Commands that are imported when they are called: `--help` and `--version` need none of them, and the others one."""

from collections.abc import Iterator, MutableMapping
from typing import Any

import typer
from typer.core import TyperGroup
from typer.main import get_command, get_group

from sourcebook.cli import quiet_ctrl_c
from sourcebook.references import load_reference


class CommandTable(MutableMapping[str, Any]):
    """Commands by name; one that is looked up is loaded from its reference, `module:function` or `module:typer app`."""

    def __init__(self, table: dict[str, tuple[str, str]]) -> None:
        self.table = table
        self._loaded: dict[str, Any] = {}

    def __getitem__(self, name: str) -> Any:
        if name not in self._loaded:
            self._loaded[name] = _load_command(name, *self.table[name])
        return self._loaded[name]

    def __setitem__(self, name: str, command: Any) -> None:
        self._loaded[name] = command

    def __delitem__(self, name: str) -> None:
        del self._loaded[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self.table)

    def __len__(self) -> int:
        return len(self.table)


def _load_command(name: str, reference: str, about: str) -> Any:
    with quiet_ctrl_c():
        found = load_reference(reference)
    if isinstance(found, typer.Typer):
        found.rich_markup_mode = None  # as the program itself
        command: Any = get_group(found)
        command.help = about
    else:
        alone = typer.Typer(add_completion=False, rich_markup_mode=None)
        alone.command(name)(found)
        command = get_command(alone)
    command.name = name
    return command


class LazyGroup(TyperGroup):
    """A group that lists its commands without loading them."""

    def format_commands(self, ctx: Any, formatter: Any) -> None:
        """Write the list of commands from the table."""
        del ctx
        if not isinstance(self.commands, CommandTable):  # pragma: no cover - the one app that uses this sets it
            raise TypeError
        with formatter.section("Commands"):
            formatter.write_dl([(name, about) for name, (_, about) in self.commands.table.items()])
