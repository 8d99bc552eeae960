"""The five things that one does here, each in an environment of its own: format, lint, types, test, bench.

`nox` alone does what must pass before a change lands; `nox -s test-3.12` is one session, `nox -l` lists all. What
stands after `--` goes to pytest, or names the benchmark and its options.
"""

import nox

PYTHONS = ["3.11", "3.12", "3.13", "3.14"]
OLDEST = PYTHONS[0]

nox.needs_version = ">=2024.10.9"
nox.options.default_venv_backend = "uv|virtualenv"
nox.options.sessions = ["lint", "types", "test"]
nox.options.error_on_missing_interpreters = False


@nox.session(python=OLDEST, name="format")
def reformat(session: nox.Session) -> None:
    """Format all code, and mend what ruff can mend."""
    session.install("ruff>=0.11")
    session.run("ruff", "format", ".")
    session.run("ruff", "check", "--fix", ".")


@nox.session(python=OLDEST)
def lint(session: nox.Session) -> None:
    """Check formatting, lints, the Dockerfile, the shell scripts and the import contracts."""
    session.install("-e", ".[lint]")
    session.run("ruff", "format", "--check", ".")
    session.run("ruff", "check", ".")
    session.run("hadolint", "Dockerfile")
    session.run("shellcheck", ".ci/run", ".ci/rulers")
    session.run("lint-imports", "--no-cache")


@nox.session(python=OLDEST)
def types(session: nox.Session) -> None:
    """Check types, those of the tests too."""
    session.install("-e", ".[test,lint]")
    session.run("mypy")


@nox.session(python=PYTHONS)
def test(session: nox.Session) -> None:
    """Run the tests; `nox -s test -- -m long` runs those that are too heavy for every run."""
    session.install("-e", ".[test]")
    session.run("pytest", *session.posargs)


@nox.session(python=OLDEST)
def coverage(session: nox.Session) -> None:
    """Measure which lines and branches the tests take, in the processes that they start as well; print it by room."""
    session.install("-e", ".[test]", "coverage>=7.10")
    report = f"{session.create_tmp()}/coverage.json"
    session.run("coverage", "erase")
    session.run("coverage", "run", "-m", "pytest", *session.posargs)
    session.run("coverage", "combine", "--quiet")
    session.run("coverage", "json", "--quiet", "-o", report)
    session.run("python", "tests/coverage_by_room.py", report)


@nox.session(python=OLDEST)
def bench(session: nox.Session) -> None:
    """Run a benchmark, by default that of the ledger: `nox -s bench -- scrape --seconds 5`."""
    session.install("-e", ".[test]")
    name, *options = session.posargs or ["ledger"]
    session.run("python", f"tests/benchmarks/{name}.py", *options)
