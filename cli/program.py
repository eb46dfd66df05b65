"""A process of the stack, written down as the small shell script that supervisor starts.

A script and not a line of supervisor's configuration, because the shell's quoting holds for any path and value, because
a person can start it by hand, and because it writes the pid file: `exec` keeps the pid, so that the file always names
the process itself, also after supervisor has started it again.
"""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from cli.layout import CHECKOUT, VENV

#: In the environment of every process of a stack: `<stack id>/<program>`.
MARK = "STACK_OF_SLUICE"


@dataclass(frozen=True)
class Program:
    name: str
    command: tuple[str, ...]
    environment: Mapping[str, str] = field(default_factory=dict)
    #: The ports that it listens on, by their names.
    ports: tuple[str, ...] = ()
    #: A line of shell to run before it starts.
    first: str = ""
    stop_signal: str = "TERM"
    #: Seconds it has to end before its whole process group is killed.
    stop_seconds: int = 15
    #: Whatever else makes it another program when it changes, for example its code.
    version: str = ""

    def script(self, *, stack_id: str, pid_file: Path, home: Path) -> str:
        variables = {
            "PATH": f"{VENV / 'bin'}:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
            "HOME": str(home),
            "LANG": "C.UTF-8",
            "PYTHONUNBUFFERED": "1",
            MARK: f"{stack_id}/{self.name}",
            **self.environment,
        }
        lines = [
            "#!/bin/sh",
            f"# Starts {self.name} as the stack does. Written anew by every `sluice up`.",
            f"cd {shlex.quote(str(CHECKOUT))} || exit 1",
            *(f"export {name}={shlex.quote(value)}" for name, value in variables.items()),
            *([self.first] if self.first else []),
            f"echo $$ > {shlex.quote(str(pid_file))}",
            f"exec {shlex.join(self.command)}",
        ]
        if self.version:
            lines.insert(2, f"# Version {self.version}")
        return "\n".join(lines) + "\n"
