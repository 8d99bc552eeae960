"""Units: how FOCUS writes them, and what fal's own words are in that form.

The format is a recommendation of the specification ("Unit Format"): `<plural>`, `<singular>-<plural time>`,
`<plural>/<singular time>`, `<number> <plural>`, `<plural>/<number> <plural time>`.
"""

import re
from collections.abc import Mapping
from types import MappingProxyType

_OF_FAL: Mapping[str, str] = MappingProxyType(
    {
        "image": "Images",
        "video": "Videos",
        "second": "Seconds",
        "minute": "Minutes",
        "hour": "Hours",
        "megapixel": "Megapixels",
        "character": "Characters",
        "1k_characters": "1000 Characters",
        "1m_characters": "1000000 Characters",
        "token": "Tokens",
        "1k_tokens": "1000 Tokens",
        "1m_tokens": "1000000 Tokens",
        "request": "Requests",
        "compute_second": "Compute-Seconds",
        "gpu_second": "GPU-Seconds",
        "unit": "Units",
    }
)

_THOUSANDS = re.compile(r"(?P<count>\d+)(?P<scale>[km]?)[ _-]+(?P<noun>.+)", re.IGNORECASE)
_SCALES = MappingProxyType({"": "", "k": "000", "m": "000000"})

_TIMES = ("Year", "Month", "Day", "Hour", "Minute", "Second", "Millisecond", "Microsecond")
_SIZES = frozenset(f"{prefix}{base}" for prefix in ("", *"KMGTPE", "Ki", "Mi", "Gi", "Ti", "Pi", "Ei") for base in "bB")
_ABBREVIATIONS = frozenset({"IOPS", "MAUs", "vCPUs"})
_TIME = rf"(?:{'|'.join(_TIMES)})"
_SIZE = rf"(?:{'|'.join(sorted(_SIZES, key=len, reverse=True))})"
_NOUN = r"[A-Z][A-Za-z0-9]*(?: [A-Z][A-Za-z0-9]*)*"
_PLURAL = rf"(?:{_SIZE}|{'|'.join(sorted(_ABBREVIATIONS))}|{_NOUN})"
_UNIT = re.compile(
    rf"(?:[1-9]\d* )?{_PLURAL}|(?:{_SIZE}|{_NOUN})-{_TIME}s|{_PLURAL}/{_TIME}|{_PLURAL}/[1-9]\d* {_TIME}s"
)
_SINGULAR = re.compile(rf"(?:[1-9]\d* )?(?:{_TIME}|Count|Unit|Request|Token|Connection|Certificate|Domain|Core)")


def focus_unit(fal_unit: str) -> str:
    """Return fal's unit in the FOCUS format; one that is not known is capitalised and put in the plural.

    What cannot be made a unit of the format becomes `Units`.
    """
    known = _OF_FAL.get(fal_unit.lower())
    if known is not None:
        return known
    several = _THOUSANDS.fullmatch(fal_unit.strip())
    count, noun = "", fal_unit
    if several:
        count = f"{int(several['count'])}{_SCALES[several['scale'].lower()]} "
        noun = several["noun"]
    words = [word[:1].upper() + word[1:] for word in re.findall(r"[A-Za-z0-9]+", noun)]
    plural = " ".join(words)
    unit = count + (plural if plural.endswith("s") else f"{plural}s")
    return unit if is_unit(unit) else "Units"


def is_unit(text: str) -> bool:
    """Tell whether a text is a unit in the FOCUS format: its words capitalised, listed nouns in the plural."""
    return _UNIT.fullmatch(text) is not None and _SINGULAR.fullmatch(text) is None
