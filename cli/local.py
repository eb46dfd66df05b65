"""The commands about the stack on this machine: brings it up and down, and says how it is."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from cli import credentials, demo, dotenv, environment, rolling
from cli.layout import CHECKOUT, DEFAULT_STATE, Layout, short
from cli.output import Output, duration
from cli.roles import USER, WATCH
from cli.servers import rabbitmq
from cli.stack import Stack
from cli.trouble import Trouble
from settings import variables

#: Lines of each log that `logs` shows.
LINES_OF_ALL, LINES_OF_ONE = 15, 200

_HELP = "Folder of the stack's state; SLUICE_STATE_DIR names it too.  [default: .sluice in the checkout]"


def on_stack(command: Callable[..., Any]) -> Callable[..., Any]:
    """Adds `--state` to a command."""
    return click.option("--state", type=click.Path(path_type=Path, file_okay=False), help=_HELP)(command)


@click.command()
@on_stack
@click.option(
    "--demo/--no-demo",
    "with_demo",
    default=None,
    help="Run the main job at the end.  [default: if anything was started]",
)
def up(state: Path | None, with_demo: bool | None) -> None:
    """Start what is not running, wait until it is healthy, run the main job once."""
    output = Output.terminal()
    stack = open_stack(state, output)
    output.title(f"Sluice in {short(stack.layout.state)}")
    something_started = stack.up()
    if with_demo or (with_demo is None and something_started):
        run_demo(stack, output)
    show_addresses(stack, output)


@click.command()
@on_stack
@click.option(
    "--wipe", is_flag=True, help="Also remove the stack's folder: databases, queues, files, mails, logs."
)
@click.option("--yes", is_flag=True, help="Do not ask.")
def down(state: Path | None, wipe: bool, yes: bool) -> None:
    """Stop everything; no process stays behind."""
    output = Output.terminal()
    stack = open_stack(state, output)
    folder = short(stack.layout.state)
    if not stack.layout.credentials.exists():
        output.line(f"There is no stack in {folder}.")
        return
    if wipe and not yes:
        click.confirm(f"Remove {folder} with all its data?", abort=True)
    if wipe:
        stack.wipe()
    else:
        stack.down()
    output.line(f"Sluice in {folder} is down{' and removed' if wipe else ''}.")


@click.command()
@on_stack
def restart(state: Path | None) -> None:
    """Start the service anew, process by process, while it goes on serving; the servers stay as they are."""
    output = Output.terminal()
    rolling.roll(open_stack(state, output), output)


@click.command()
@on_stack
def status(state: Path | None) -> None:
    """Show every process; exit code 1 when one of them is not well."""
    output = Output.terminal()
    parts = open_stack(state).status()
    rows = [
        (
            part.name,
            part.state.lower(),
            str(part.pid or ""),
            duration(part.uptime_seconds) if part.uptime_seconds else "",
            part.url,
        )
        for part in parts
    ]
    output.table(rows, heading=("process", "state", "pid", "up for", "address"))
    if not all(part.is_well for part in parts):
        sys.exit(1)


@click.command()
@on_stack
@click.argument("process", required=False)
def logs(state: Path | None, process: str | None) -> None:
    """Follow the logs, of one PROCESS or of all; when not on a terminal, show their last lines."""
    layout = open_stack(state).layout
    files = [layout.log(process)] if process else sorted(layout.run.glob("*.log"))
    missing = [file.stem for file in files if not file.exists()]
    if missing or not files:
        there_are = ", ".join(sorted(file.stem for file in layout.run.glob("*.log"))) or "none"
        raise Trouble(f"no log of {', '.join(missing) or 'any process'}; there are: {there_are}")
    lines = LINES_OF_ONE if process else LINES_OF_ALL
    tail = shutil.which("tail") or "tail"
    follow = ["-F"] if sys.stdout.isatty() else []
    os.execv(tail, [tail, "-n", str(lines), *follow, *map(str, files)])


@click.command("demo")
@on_stack
def demo_command(state: Path | None) -> None:
    """Run the main job: a task of each type but truncate_table, and a big insert stopped in flight."""
    run_demo(open_stack(state), Output.terminal())


@click.command()
@on_stack
def env(state: Path | None) -> None:
    """Print shell exports for scripts that work with the stack."""
    click.echo(environment.exports(open_stack(state).environment()))


@click.command(
    context_settings={"ignore_unknown_options": True, "help_option_names": []}, add_help_option=False
)
@on_stack
@click.argument("arguments", nargs=-1, type=click.UNPROCESSED)
def keys(state: Path | None, arguments: tuple[str, ...]) -> None:
    """Make, list and revoke API keys: `keys create --help` and the like."""
    done = open_stack(state).ledger_command("keys", *(arguments or ("--help",)))
    click.echo(done.stdout, nl=False)
    click.echo(done.stderr, nl=False, err=True)
    sys.exit(done.returncode)


def open_stack(state: Path | None, output: Output | None = None) -> Stack:
    """The stack of a folder, with what the operator chose by `.env` and by the real environment."""
    overrides = environment.chosen(
        dotenv=dotenv.read(CHECKOUT / ".env"),
        environ=os.environ,
        known=variables(),
        printed=printed_into_this_shell(),
    )
    folder = state or Path(overrides.get(environment.STATE_DIR, DEFAULT_STATE))
    return Stack(folder, overrides=overrides, output=output)


def printed_into_this_shell() -> dict[str, str]:
    """What `env` printed, if this shell evaluated it."""
    folder = os.environ.get(environment.STATE_DIR)
    if not folder or credentials.load(Layout(Path(folder)).credentials) is None:
        return {}
    kept = Stack(Path(folder)).environment()
    return {name: value for name, value in kept.items() if name != environment.STATE_DIR}


def run_demo(stack: Stack, output: Output) -> None:
    variables_of_stack = stack.environment()
    demo.run(variables_of_stack["SLUICE_URL"], output, api_key=variables_of_stack.get("SLUICE_API_KEY"))


def show_addresses(stack: Stack, output: Output) -> None:
    found = stack.environment()
    kept = credentials.keep(stack.layout.credentials)
    url = found["SLUICE_URL"]
    output.title("Where things are")
    rows = [
        ("API", url, "endpoints: README.md"),
        ("page", f"{url}/ui", "queues, workers and tasks; it asks for the API key"),
        *([("API key", found["SLUICE_API_KEY"], "shown this once")] if stack.key_is_new else []),
        ("Flower", environment.without_password(found["FLOWER_URL"]), f"{USER} / {kept.flower}"),
    ]
    if "RABBITMQ_URL" in found:
        rows.append(
            (
                "RabbitMQ",
                environment.without_password(found["RABBITMQ_URL"]),
                f"{WATCH} / {kept.of(rabbitmq.NAME, WATCH)}",
            )
        )
    if "SLUICE_MAIL_DIR" in found:
        rows.append(
            ("mails", short(Path(found["SLUICE_MAIL_DIR"])), "every mail is kept there, none is sent on")
        )
    rows.append(
        ("files", short(Path(found["SLUICE_STORAGE_DIR"])), "in/ for tasks to read, out/ for what they make")
    )
    output.table(rows)
    output.title("What to try next")
    output.table(
        [
            ("make status", "every process"),
            ("make demo", "the main job again"),
            ("./sluice list", "the latest tasks; ./sluice --help has more"),
            ("make logs P=data", "what the data worker says"),
            ("make test", "the test suite"),
            ("make down", "stop everything"),
        ]
    )
    output.line()
    output.line('  eval "$(make env)"    # SLUICE_URL, SLUICE_API_KEY and the other addresses')
    output.line("""  curl -s $SLUICE_URL/api/tasks -H "X-API-Key: $SLUICE_API_KEY" \\""")
    output.line("""    -H 'Content-Type: application/json' \\""")
    output.line(
        """    -d '{"task_type": "data_processing", "priority": "high", "parameters": {"data": "test data"}}'"""
    )
    output.line()


COMMANDS = (up, down, restart, status, logs, demo_command, env, keys)
