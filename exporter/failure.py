"""Failures of a command as a user is told of them: a sentence on stderr and an exit code, never a traceback unasked."""

import logging
import sys
import traceback

PROGRAM = "fal-exporter"

INTERRUPTED = 130
"""Exit code of a program that was stopped by Ctrl-C, by the shells' convention."""

TERMINATED = 143
"""Exit code of a command that was told to end by SIGTERM, likewise."""


def fail(message: str, code: int) -> int:
    """Print a problem on stderr, a line each, and return the exit code."""
    from exporter.logs import redact  # noqa: PLC0415  with structlog, for which nobody waits who asks for help

    sys.stderr.writelines(f"{PROGRAM}: {line}\n" for line in redact(message).splitlines())
    sys.stderr.flush()
    return code


def fail_unexpectedly(error: Exception) -> int:
    """Print an unexpected error, with its traceback where debug lines are logged, and return the exit code."""
    from exporter.logs import redact  # noqa: PLC0415  as above

    if logging.getLogger().isEnabledFor(logging.DEBUG):
        sys.stderr.write(redact("".join(traceback.format_exception(error))))
        hint = "the traceback above says where"
    else:
        hint = "run it again with --log-level debug to see where"
    text = " ".join(str(error).split())
    return fail(
        f"an unexpected error, {type(error).__name__}{f' ({text})' if text else ''}, ended the command; {hint}", 1
    )
