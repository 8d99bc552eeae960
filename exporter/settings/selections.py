"""What is chosen by naming it: the sources to poll, the labels to publish."""

import re
from collections.abc import Iterable

from exporter.logs import redact_loosely

SOURCES = ("models", "serverless", "organization", "reporting", "focus")
"""The primary sources, by name."""

LABELS = ("account", "team", "product", "model", "app", "environment", "gpu_class", "api_key", "surge")
"""The dimensions of a charge that may be labels, in the order in which they are published."""

DEFAULT_LABELS = ("account", "team", "product", "model", "app", "gpu_class")


_ENDPOINT = re.compile(r"[\w.-]+(?:/[\w.-]+)+")


def choose_sources(names: Iterable[str]) -> tuple[str, ...] | None:
    """Return the named sources in their fixed order, or None for `auto`: chosen by what the key may read.

    Raises:
        ValueError: a name is unknown or repeated, none is given, or two sources hold the same charges.
    """
    chosen = list(names)
    if chosen == ["auto"]:
        return None
    _check_names(chosen, SOURCES, "source", "auto alone, or some of ")
    for alone in ("reporting", "focus"):
        if alone in chosen and len(chosen) > 1:
            raise ValueError(
                f"joins {alone} with another source; each reports the same spend, so charges would be counted twice: "
                f"keep either {alone} or the others"
            )
    if "organization" in chosen and len(chosen) > 1:
        raise ValueError(
            "joins organization with models or serverless; organization contains what they report, so charges would "
            "be counted twice: keep either organization or the others"
        )
    return tuple(source for source in SOURCES if source in chosen)


def choose_labels(names: Iterable[str]) -> tuple[str, ...]:
    """Return the named labels in their fixed order.

    Raises:
        ValueError: a name is unknown or repeated, or `account` is missing.
    """
    chosen = list(names)
    _check_names(chosen, LABELS, "label", "some of ")
    if "account" not in chosen:
        raise ValueError("leaves out account, which tells the accounts apart; add it")
    return tuple(label for label in LABELS if label in chosen)


def choose_endpoints(names: Iterable[str]) -> tuple[str, ...]:
    """Return the named model endpoints, each once.

    Raises:
        ValueError: a name is not that of an endpoint.
    """
    chosen = tuple(dict.fromkeys(names))
    if not all(_ENDPOINT.fullmatch(name) for name in chosen):
        raise ValueError("names something that is no model endpoint; write them like fal-ai/flux/dev")
    return chosen


def _check_names(chosen: list[str], known: tuple[str, ...], noun: str, choice: str) -> None:
    if not chosen:
        raise ValueError(f"names no {noun}; choose {choice}{', '.join(known)}")
    for name in chosen:
        if name not in known:
            raise ValueError(
                f'names the unknown {noun} "{redact_loosely(name)[:40]}"; choose {choice}{", ".join(known)}'
            )
    if len(set(chosen)) < len(chosen):
        raise ValueError(f"names a {noun} twice; name each once")
