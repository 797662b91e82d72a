"""Writes the pages that list what the code has: `python docs/generate.py`. A test compares them."""  # noqa: INP001

from collections.abc import Callable, Iterator, Sequence
from datetime import timedelta
from pathlib import Path
from typing import Any, get_args

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from sourcebook.cli.app import make_command
from sourcebook.errors import SourcebookError, TransientError
from sourcebook.flow.messages import Message
from sourcebook.flow.stages import STAGES
from sourcebook.hub.builds.model import BuildConfig, IndexSettings, KeepRules
from sourcebook.hub.schedules.rules import AFTER_CHANGE, AFTER_JOB, AFTER_LOSS, ON_TIME, RULES, Rule
from sourcebook.settings import Settings
from sourcebook_api.query.reference import write_reference

FOLDER = Path(__file__).resolve().parent
NOTE = "<!-- Written by docs/generate.py: change the code, then run it again. -->"
TYPE_NAMES = {str: "text", bool: "true or false", int: "whole number", timedelta: "time span", Path: "path"}
BYTE_UNITS = (("GiB", 1024**3), ("MiB", 1024**2), ("KiB", 1024))
TIME_UNITS = (("h", 3600), ("min", 60), ("s", 1))


def render_settings() -> str:
    """Return docs/settings.md."""
    rows = [
        (f"`SOURCEBOOK_{name.upper()}`", _show_type(name, field), _show_default(name, field), field.description or "")
        for name, field in Settings.model_fields.items()
    ]
    return f"""{NOTE}
# Settings

Every setting is an environment variable, and every setting has a default: with none set, all data stay below `.sourcebook`
in the folder where the command runs, and nothing but Sourcebook itself is needed. A variable that begins with `SOURCEBOOK_`
and is not in this table is refused, so a misspelt name is an error and not a silent default.

A secret, such as a URL with a password, is better a file: `SOURCEBOOK_SECRETS` names a folder, in which
`sourcebook_documents_url` has the value of `SOURCEBOOK_DOCUMENTS_URL`. It is read once when a program starts, and closed.

A time span is written as hours, minutes and seconds (`00:01:30`) or as ISO 8601 says (`PT90S`, `P1D`). Numbers of bytes are
written in full (`104857600`); the table shortens them.

{_table(("variable", "value", "default", "meaning"), rows)}
"""


def render_errors() -> str:
    """Return docs/errors.md."""
    rows = [
        (f"`{kind.code}`", kind.__name__, str(kind.status), str(kind.exit_code), _retried(kind), _first_line(kind))
        for kind in _subclasses(SourcebookError)
        if not kind.__subclasses__() or kind.__name__ not in ABSTRACT
    ]
    return f"""{NOTE}
# Errors

An error says what is wrong, where, and what to do about it. For programs it has a `code` that stays the same from version
to version, the `status` that the HTTP interface answers with, and the exit status of the command line. Details such as
names, paths and what is allowed are JSON values beside the message. `retried` says whether a job that meets the error is
started again automatically.

{_table(("code", "class", "status", "exit", "retried", "meaning"), rows)}

A job whose worker died too often fails with the code `worker_lost`; one that met a fault in Sourcebook itself fails with
`internal`, and the traceback is in the worker's log. An exit status of 0 is success, 1 is any error without a number of its
own.
"""


def render_commands() -> str:
    """Return docs/commands.md."""
    sections = "\n".join(_show_command(words, command) for words, command in iterate_commands(make_command()))
    return f"""{NOTE}
# Commands

`sourcebook COMMAND --help` prints the same. A command prints its result to stdout, and progress, warnings and errors to
stderr. With `--json`, stdout holds one JSON value, and an error is a JSON object with `code`, `message` and `details` on
stderr. Exit status: 0 for success, 2 for wrong usage, 130 after Ctrl-C, 143 after SIGTERM, else that of the error
([errors](errors.md)); a job that a command waited for ends it with the exit status of the job's error. Ctrl-C ends the
waiting of `dump`, `upload`, `inspect`, `build` and `release`, and the job goes on; it ends the job of `run`.

{sections}"""


def iterate_commands(group: Any, *words: str) -> Iterator[tuple[tuple[str, ...], Any]]:
    """Yield each command with the words that call it; a group that does something when called alone is a command too."""
    for name, command in group.commands.items():
        if not hasattr(command, "commands"):
            yield (*words, name), command
            continue
        if command.invoke_without_command:
            yield (*words, name), command
        yield from iterate_commands(command, *words, name)


def _show_command(words: tuple[str, ...], command: Any) -> str:
    shown = [item for item in command.params if item.name != "help"]
    arguments = [f"{item.name.upper()}{' ...' if item.nargs == -1 else ''}" for item in shown if _is_argument(item)]
    rows = [_show_parameter(item) for item in shown]
    table = f"\n{_table(('', 'meaning'), rows)}\n" if rows else ""
    about = " ".join((command.callback.__doc__ or "").split())
    return f"## `{' '.join(('sourcebook', *words, *arguments))}`\n\n{about}\n{table}"


def _show_parameter(item: Any) -> tuple[str, str]:
    if _is_argument(item):
        return f"`{item.name.upper()}`", item.help or ""
    value = "" if item.is_flag else f" {item.name.upper()}"
    default = f" Default: {item.default}." if isinstance(item.default, int) and not item.is_flag else ""
    return f"`{item.opts[0]}{value}`", f"{item.help or ''}{default}"


def _is_argument(item: Any) -> bool:
    return str(item.param_type_name) == "argument"


def render_query_api() -> str:
    """Return docs/query-api.md."""
    return f"{NOTE}\n{write_reference()}"


def render_build_configurations() -> str:
    """Return docs/build-configurations.md."""
    rows = [
        (f"`{prefix}{field.alias or name}`", _show_values(field), _show_config_default(field), field.description or "")
        for prefix, section in (("", BuildConfig), ("index.", IndexSettings), ("keep.", KeepRules))
        for name, field in section.model_fields.items()
    ]
    return f"""{NOTE}
# Build configurations

A build configuration says which sources become one API, and how. Three ways to make one:

```sh
sourcebook build genes --sources hgnc,ncbi_gene --doc-type gene    # makes it, and builds
sourcebook build genes.yaml                                        # a file with it, which is stored first
sourcebook config edit genes                                       # in $EDITOR, or from --file
```

`sourcebook config list` and `sourcebook config show genes` show what is stored, as YAML that `build` reads; over HTTP it is
`GET`, `PUT` and `DELETE /hub/build-configs/genes`. An unknown key or a wrong value is an error that names the key and, if one is
close, the right one. A change takes effect at the next build.

```yaml
name: genes
doc_type: gene
sources: [hgnc, ncbi_gene, "clin*"]
root: [hgnc]              # the others only add to genes that hgnc has
schedule: 0 4 * * 1       # each Monday at four, UTC
release: auto             # and serve it, if the build succeeded
keep: {{builds: 3}}
```

## Keys

{_table(("key", "value", "default", "meaning"), rows)}

Sources merge in this order: those of `root` first, then the others, each group by name. A root key of a later source replaces that of
an earlier one, unless its uploader says `merger: deep` ([manifest](write-a-plugin.md#uploader-and-each-of-uploaders)). `sourcebook
build` merges only what changed where it can; `--full` and `--incremental` insist. Before it begins it says if nothing is new since
the last build.

## Look before you release

```sh
sourcebook show hgnc                          # three documents, from all over the ids
sourcebook show hgnc HGNC:5                   # one
sourcebook show hgnc --field locus_type       # in how many documents, how many different values, smallest, largest, examples
sourcebook release diff BUILD                 # what a build changes
```

The same over HTTP: `/hub/sources/hgnc/documents`, `/hub/sources/hgnc/documents/HGNC:5`, `/hub/sources/hgnc/fields/locus_type`
(each with `?uploader=` where a source has several).
"""


def _show_values(field: FieldInfo) -> str:
    options = [item for item in get_args(field.annotation) if isinstance(item, str)]
    if options:
        return ", ".join(f"`{item}`" for item in options)
    if isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel):
        return "object, see below"
    kinds = {
        list[str]: "list",
        dict[str, Any]: "object",
        dict[str, str]: "object of texts",
        bool: "true or false",
        int: "whole number",
    }
    kinds |= {int | None: "whole number", float | None: "number"}
    return kinds.get(field.annotation, "text")


def _show_config_default(field: FieldInfo) -> str:
    if field.is_required():
        return "required"
    value = field.get_default(call_default_factory=True)
    if isinstance(value, bool):
        return str(value).lower()
    return f"`{value}`" if isinstance(value, str | int) else ""


def render_env_example() -> str:
    """Return deploy/.env.example."""
    entries = "\n".join(
        f"# {field.description}\n#SOURCEBOOK_{name.upper()}={_show_plain(field.default)}\n"
        for name, field in Settings.model_fields.items()
    )
    return f"""# Written by docs/generate.py: change settings.py, then run it again.
#
# Every setting, with its default. For compose: cp .env.example .env, and edit the copy; what is left out stays as it is.
# deploy/Dockerfile and deploy/compose.yml set some for containers: HOME, HOST, LOG_JSON, METRICS_*, PARTS, PLUGINS, SECRETS,
# STOP_GRACE and the URLs of the engines. A URL with a password belongs into a file of SECRETS_FOLDER, named after its setting and
# readable by user 10001 alone: secrets/sourcebook_documents_url.
ENV_FILE=.env

# Of compose alone: the folders with the plugins and with the secrets, and the gateway's port on this machine.
#PLUGINS_FOLDER=../examples/genes
#SECRETS_FOLDER=./secrets
#GATEWAY_PORT=8000

{entries}"""


def _show_plain(value: Any) -> str:
    if isinstance(value, timedelta):
        return f"{value.total_seconds():.15g}"
    return str(value).lower() if isinstance(value, bool) else str(value)


def render_flow() -> str:
    """Return the picture and the table of what follows what, for ARCHITECTURE.md."""
    lines = [_draw_chain(rule) for rule in RULES if rule.follows and not _rules_before(rule)]
    timed = ", ".join(_name_commands(rule.commands) for rule in ON_TIME)
    actors = {AFTER_JOB: "the worker", AFTER_CHANGE: "beat", ON_TIME: "beat", AFTER_LOSS: "beat"}
    rows = [
        (
            rule.trigger,
            rule.condition,
            f"`{_name_function(rule)}`",
            _name_commands(rule.commands) or rule.outcome,
            actor,
        )
        for rules, actor in actors.items()
        for rule in rules
    ]
    return f"""```
{chr(10).join(lines)}
(clock) ....> {timed}

---->  the worker starts it when the job ends      ....>  beat starts it when it sees that it is due
```

Nothing of this starts while a job works on the same thing: what follows a job waits, what beat starts is looked at again later.

{_table(("trigger", "condition", "decided by", "what starts", "started by"), rows)}"""


def _rules_before(rule: Rule) -> list[Rule]:
    return [other for other in RULES if other.follows and other.commands == rule.follows]


def _draw_chain(rule: Rule) -> str:
    """Return a line with a rule and those that follow it."""
    line = _name_commands(rule.follows)
    while True:
        line += f" {'---->' if rule in AFTER_JOB else '....>'} {_name_commands(rule.commands)}"
        following = [other for other in RULES if other.follows == rule.commands]
        if not following:
            return line
        (rule,) = following


def _name_commands(commands: tuple[type[Message], ...]) -> str:
    names = {stage.command: stage.name for stage in STAGES.values()}
    return " or ".join(names[command] for command in commands)


def _name_function(rule: Rule) -> str:
    module = rule.decided_by.__module__.removeprefix("sourcebook.").replace(".", "/")
    return f"{module}.py: {rule.decided_by.__name__}"


def render_decisions() -> str:
    """Return docs/decisions/README.md."""
    lines = []
    for page in sorted((FOLDER / "decisions").glob("[0-9]*.md")):
        title, _, stated = page.read_text().splitlines()[:3]
        number, _, words = title.removeprefix("# ").partition(". ")
        date, _, status = stated.removeprefix("Date: ").removesuffix(".").partition(". Status: ")
        lines.append(f"| {number} | [{words}]({page.name}) | {date} | {status} |")
    return f"""{NOTE}
# Decisions

Why things are as they are, and what else was considered. A page never changes its number; one that no longer holds
says which page replaced it.

| number | decision | date | status |
|---|---|---|---|
{chr(10).join(lines)}
"""


PAGES: dict[str, Callable[[], str]] = {
    "settings.md": render_settings,
    "errors.md": render_errors,
    "commands.md": render_commands,
    "query-api.md": render_query_api,
    "build-configurations.md": render_build_configurations,
    "decisions/README.md": render_decisions,
    "../deploy/.env.example": render_env_example,
}
# Parts of pages that people write: between the marks of a name stands what its function returns.
BLOCKS: dict[str, dict[str, Callable[[], str]]] = {"../ARCHITECTURE.md": {"what follows what": render_flow}}
# Classes that only group others; nobody meets them.
ABSTRACT = {"TransientError", "TerminalError"}


def _show_type(name: str, field: FieldInfo) -> str:
    kind: Any = field.annotation
    if choices := get_args(kind):
        return " or ".join(f"`{choice}`" for choice in choices)
    shown = "bytes" if name.endswith("_bytes") else TYPE_NAMES[kind]
    bounds = {key: getattr(item, key) for item in field.metadata for key in ("ge", "le") if hasattr(item, key)}
    numbers = {key: _show_bytes(value) if shown == "bytes" else f"{value:,}" for key, value in bounds.items()}
    match numbers:
        case {"ge": low, "le": high}:
            return f"{shown}, {low} to {high}"
        case {"ge": low}:
            return f"{shown}, at least {low}"
        case _:
            return shown


def _show_default(name: str, field: FieldInfo) -> str:
    value = field.default
    if isinstance(value, bool):
        return f"`{str(value).lower()}`"
    if isinstance(value, timedelta):
        return _show_time(value)
    if name.endswith("_bytes"):
        return _show_bytes(value)
    return f"`{value}`" if value != "" else "(empty)"


def _show_bytes(value: int) -> str:
    return next((f"{value // size} {unit}" for unit, size in BYTE_UNITS if value % size == 0), f"{value:,}")


def _show_time(value: timedelta) -> str:
    seconds = int(value.total_seconds())
    return next(f"{seconds // size} {unit}" for unit, size in TIME_UNITS if seconds % size == 0)


def _subclasses(kind: type[SourcebookError]) -> Iterator[type[SourcebookError]]:
    for child in kind.__subclasses__():
        # Tests may define errors of their own.
        if child.__module__ == SourcebookError.__module__:
            yield child
            yield from _subclasses(child)


def _retried(kind: type[SourcebookError]) -> str:
    return "yes" if issubclass(kind, TransientError) else "no"


def _first_line(kind: type[SourcebookError]) -> str:
    return (kind.__doc__ or "").strip().splitlines()[0]


def _table(head: tuple[str, ...], rows: Sequence[tuple[str, ...]]) -> str:
    lines = [head, ("---",) * len(head), *rows]
    return "\n".join("| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in lines)


def fill_blocks(text: str, blocks: dict[str, Callable[[], str]]) -> str:
    """Return a page with its generated blocks as they are now.

    Raises:
        ValueError: the page does not have the marks of a block, in their order.
    """
    for name, render in blocks.items():
        begin, end = f"<!-- {name}: written by docs/generate.py -->\n", f"<!-- end of {name} -->"
        before, found, rest = text.partition(begin)
        _, closed, after = rest.partition(end)
        if not found or not closed:
            msg = f"the marks of {name!r} are missing: {begin.strip()} and {end}"
            raise ValueError(msg)
        text = f"{before}{begin}{render()}\n{end}{after}"
    return text


if __name__ == "__main__":
    for page, render in PAGES.items():
        (FOLDER / page).write_text(render())
    for page, blocks in BLOCKS.items():
        (FOLDER / page).write_text(fill_blocks((FOLDER / page).read_text(), blocks))
