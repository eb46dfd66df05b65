"""The `sluice` command: which commands there are, and how they end when something is wrong."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from importlib import import_module

import click
from click_didyoumean import DYMGroup

from cli.output import Output
from cli.trouble import Trouble

#: What is listed under which title, and the module that has it. A module is loaded when it is needed: those of the
#: stack take most of a second, which nobody who only asks for a task should wait for.
SECTIONS: Mapping[str, Mapping[str, Sequence[str]]] = {
    "Tasks, on the service that SLUICE_URL names or on this machine's": {
        "cli.tasks": ("submit", "get", "wait", "watch", "stop", "list", "explain", "retry"),
        "cli.queues": ("queues", "limits", "workers"),
        "cli.schedules": ("schedules",),
    },
    "The stack on this machine": {
        "cli.local": ("up", "down", "restart", "status", "logs", "demo", "env", "keys"),
    },
}
MODULES = {
    name: module for modules in SECTIONS.values() for module, names in modules.items() for name in names
}


class Commands(DYMGroup):  # type: ignore[misc]
    """The commands by their sections, each loaded when it is called for."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(MODULES)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in MODULES:
            return None
        commands: Sequence[click.Command] = import_module(MODULES[cmd_name]).COMMANDS
        return next(command for command in commands if command.name == cmd_name)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        for title, modules in SECTIONS.items():
            names = [name for names in modules.values() for name in names]
            with formatter.section(title):
                commands = [(name, self.get_command(ctx, name)) for name in names]
                formatter.write_dl([(name, each.get_short_help_str(80)) for name, each in commands if each])


@click.command(cls=Commands, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
def sluice() -> None:
    """A task service: submit tasks and follow them, and run all of it on this machine.

    \b
      sluice up                                        # the stack on this machine
      sluice submit bulk_insert rows:=100000 --watch   # a task, followed to its end
    """


def main(arguments: Sequence[str] | None = None) -> None:
    try:
        sluice(args=arguments, prog_name="sluice")
    except Trouble as trouble:
        complain(str(trouble), *trouble.more())
        sys.exit(trouble.exit_code)
    except PermissionError as error:
        complain(
            f"{error.filename or error}: not yours to read or write; was the stack made by another user?"
        )
        sys.exit(1)


def complain(first: str, *more: str) -> None:
    output = Output(sys.stderr)
    output.line()
    output.failed(first)
    for line in more:
        output.line(f"    {line}")


if __name__ == "__main__":
    main()
