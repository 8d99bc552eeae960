"""Profiles of Hypothesis: the number and the choice of examples.

`short` tries the same few in every run, on a busy machine too, and does not shrink what fails for minutes; `shrink`
looks at more of the same, and does. `long` draws new ones each time, and many: `pytest -m "long or hypothesis"
--hypothesis-profile long`.
"""

from hypothesis import HealthCheck, Phase, settings

_ANYWHERE = settings(deadline=None, print_blob=True, suppress_health_check=[HealthCheck.too_slow])
_SAME = settings(_ANYWHERE, derandomize=True, database=None)

settings.register_profile("short", _SAME, max_examples=12, phases=(Phase.explicit, Phase.generate, Phase.target))
settings.register_profile("shrink", _SAME)
settings.register_profile("long", _ANYWHERE)
settings.load_profile("short")


def examples(short: int, *, long: int) -> int:
    """Return how many examples a costly property is tried on in this run."""
    return long if settings.get_current_profile_name() == "long" else short
