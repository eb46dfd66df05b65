"""Where things lie: the checkout, and the folders of one stack's state."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

CHECKOUT = Path(__file__).resolve().parent.parent
DEFAULT_STATE = CHECKOUT / ".sluice"
VENV = CHECKOUT / ".venv"
SAMPLES = CHECKOUT / "samples"
#: MySQL's packages, unpacked by `make mysql`; every stack of this checkout starts its MySQL from there.
MYSQL = DEFAULT_STATE / "mysql-server"


@dataclass(frozen=True)
class Layout:
    """The folders and files of one stack. Two stacks in two folders do not know of each other."""

    state: Path

    @property
    def run(self) -> Path:
        """`<name>.pid` and `<name>.log` of every process."""
        return self.state / "run"

    @property
    def programs(self) -> Path:
        """One shell script per process: what supervisor starts, and what a person can start by hand."""
        return self.state / "programs"

    @property
    def home(self) -> Path:
        """The home folder of the processes, so that none of them writes into the user's."""
        return self.state / "home"

    @property
    def storage(self) -> Path:
        return self.state / "storage"

    @property
    def mail(self) -> Path:
        return self.state / "mail"

    @property
    def lock(self) -> Path:
        return self.state / "lock"

    @property
    def credentials(self) -> Path:
        return self.state / "credentials.json"

    @property
    def ports(self) -> Path:
        return self.state / "ports.json"

    @property
    def supervisor_config(self) -> Path:
        return self.state / "supervisord.conf"

    def server(self, name: str) -> Path:
        """The folder of a private server: its configuration and its data."""
        return self.state / name

    def log(self, name: str) -> Path:
        return self.run / f"{name}.log"

    def pid_file(self, name: str) -> Path:
        return self.run / f"{name}.pid"

    def program(self, name: str) -> Path:
        return self.programs / name

    def create(self) -> None:
        self.state.mkdir(parents=True, exist_ok=True)
        self.state.chmod(0o700)
        for folder in (self.run, self.programs, self.home, self.mail):
            folder.mkdir(mode=0o700, exist_ok=True)


def short(path: Path) -> str:
    """Relative to where the user stands, when it lies below."""
    try:
        return str(path.relative_to(Path.cwd()))
    except ValueError:
        return str(path)


def write_private(path: Path, text: str, mode: int = 0o600) -> None:
    """Replace a file in one step, so that nobody reads half of it, readable by its owner only."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, mode)
    with os.fdopen(descriptor, "w", encoding="utf-8") as file:
        os.fchmod(file.fileno(), mode)
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    temporary.rename(path)
