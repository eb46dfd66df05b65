"""The private mail server: takes every mail, sends none, and keeps each as a file."""

from __future__ import annotations

from cli.layout import VENV
from cli.ports import Wanted
from cli.program import Program
from cli.site import Site

NAME = "smtp"
PORTS = (Wanted(NAME),)


def url(site: Site) -> str:
    return f"smtp://127.0.0.1:{site.ports[NAME]}"


def program(site: Site) -> Program:
    return Program(
        name=NAME,
        command=(
            str(VENV / "bin" / "python"),
            "-m",
            "cli.mail_sink",
            str(site.ports[NAME]),
            str(site.layout.mail),
        ),
        ports=(NAME,),
        stop_seconds=5,
    )
