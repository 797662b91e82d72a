"""The group `release`: serve builds, publish them, install what others published."""

from typing import Any

import typer
from typer.core import TyperGroup

from sourcebook.cli import builds, publishing


class _ApplyByDefault(TyperGroup):
    """`sourcebook release BUILD` means `sourcebook release apply BUILD`, as it did before there was a group."""

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        if args and args[0] not in self.commands:
            args = ["apply", *args]
        return super().resolve_command(ctx, args)


app = typer.Typer(no_args_is_help=True, cls=_ApplyByDefault)
app.command("apply")(builds.release)
publishing.add_commands(app)
