"""A PostgreSQL server with a standby that is copied to asynchronously, and a fail-over from one to the other."""

import shutil
import subprocess
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import programs
from ledger.conftest import as_unprivileged_user, free_port
from sqlalchemy import NullPool, create_engine, text

_PATIENCE = 20.0


@dataclass
class ServerPair:
    """Two servers of one database, the second of which is the first's standby until the first is gone."""

    folder: Path
    primary: int
    standby: int

    @property
    def address(self) -> str:
        """The database, on whichever server takes writes."""
        return (
            f"postgresql://ledger@127.0.0.1:{self.primary},127.0.0.1:{self.standby}/postgres"
            "?target_session_attrs=read-write"
        )

    @property
    def options_of_standby(self) -> str:
        """Options that the standby's server is started with."""
        return f"{self.options} -p {self.standby}"

    @property
    def options(self) -> str:
        """Options of both servers."""
        return f"-c listen_addresses=127.0.0.1 -k {self.folder} -c fsync=off"

    @property
    def address_for_reading(self) -> str:
        """The database on the standby."""
        return f"postgresql://ledger@127.0.0.1:{self.standby}/postgres"

    def catch_up(self) -> None:
        """Wait until the standby has all that has been written."""
        written = self._asked(self.primary, "SELECT pg_current_wal_lsn()")
        self._await(self.standby, f"SELECT pg_last_wal_replay_lsn() >= '{written}'")

    def fall_behind(self) -> None:
        """Have the standby receive nothing more."""
        self._asked(self.standby, "ALTER SYSTEM SET primary_conninfo = ''")
        self._asked(self.standby, "SELECT pg_reload_conf()")
        self._await(self.standby, "SELECT count(*) = 0 FROM pg_stat_wal_receiver")

    def kill_primary(self) -> None:
        """End the primary at once."""
        self.control("primary", "-m", "immediate", "stop")

    def fail_over(self) -> None:
        """Make the standby the primary."""
        self._asked(self.standby, "SELECT pg_promote()")

    def control(self, server: str, *arguments: str) -> None:
        """Run pg_ctl on a server."""
        self.run("pg_ctl", "-D", str(self.folder / server), "-l", str(self.folder / f"{server}.log"), "-w", *arguments)

    def run(self, program: str, *arguments: str) -> None:
        """Run a program of PostgreSQL as its user."""
        command = [*as_unprivileged_user(), programs.required(program, "postgresql"), *arguments]
        subprocess.run(
            command, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, cwd=self.folder, timeout=60
        )

    def _asked(self, port: int, statement: str) -> object:
        engine = create_engine(
            f"postgresql+psycopg://ledger@127.0.0.1:{port}/postgres", poolclass=NullPool, isolation_level="AUTOCOMMIT"
        )
        with engine.connect() as connection:
            found = connection.execute(text(statement))
            return found.scalar() if found.returns_rows else None

    def _await(self, port: int, condition: str) -> None:
        pause, end = threading.Event(), time.monotonic() + _PATIENCE
        while not self._asked(port, condition):
            assert time.monotonic() < end, condition
            pause.wait(0.02)


@contextmanager
def server_pair() -> Iterator[ServerPair]:
    """Run a primary and its standby."""
    programs.required_module("psycopg", "pip:psycopg[binary]")
    folder = Path(tempfile.mkdtemp(prefix="ledger-standby-"))
    if as_unprivileged_user():
        shutil.chown(folder, "postgres", "postgres")
    pair = ServerPair(folder, free_port(), 0)
    data, copy = str(folder / "primary"), str(folder / "standby")
    pair.run("initdb", "-D", data, "-A", "trust", "-U", "ledger", "--no-sync", "-E", "UTF8", "--locale=C")
    pair.control("primary", "-o", f"{pair.options} -p {pair.primary}", "start")
    try:
        source = f"host=127.0.0.1 port={pair.primary} user=ledger"
        pair.run("pg_basebackup", "-D", copy, "-d", source, "-R", "-X", "stream", "-c", "fast", "--no-sync")
        # Not before: in the seconds that the copy takes somebody else might be given the port.
        pair.standby = free_port()
        pair.control("standby", "-o", pair.options_of_standby, "start")
        yield pair
    finally:
        for server in ("standby", "primary"):
            if (folder / server / "postmaster.pid").exists():
                pair.control(server, "-m", "immediate", "stop")
        shutil.rmtree(folder)
