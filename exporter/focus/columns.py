"""Columns, categories, currencies and units of the Cost and Usage data set, FOCUS 1.0 to 1.4.

The format is a recommendation of the specification ("Unit Format"): `<plural>`, `<singular>-<plural time>`,
`<plural>/<singular time>`, `<number> <plural>`, `<plural>/<number> <plural time>`.

Source: the FOCUS specification's column definitions (levels of 1.2 from its requirements model, those of 1.4 from its
data model). A column's id is its name in the header.
"""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import Enum
from types import MappingProxyType

SUBCATEGORIES: Mapping[str, frozenset[str]] = MappingProxyType(
    {
        category: frozenset((*names, f"Other ({category})"))
        for category, names in (
            (
                "AI and Machine Learning",
                ("AI Platforms", "Bots", "Generative AI", "Machine Learning", "Natural Language Processing"),
            ),
            (
                "Analytics",
                ("Analytics Platforms", "Business Intelligence", "Data Processing", "Search", "Streaming Analytics"),
            ),
            ("Business Applications", ("Productivity and Collaboration",)),
            (
                "Compute",
                ("Containers", "End User Computing", "Quantum Compute", "Serverless Compute", "Virtual Machines"),
            ),
            (
                "Databases",
                (
                    *("Caching", "Data Warehouses", "Ledger Databases", "NoSQL Databases"),
                    *("Relational Databases", "Time Series Databases"),
                ),
            ),
            (
                "Developer Tools",
                (
                    *("Continuous Integration and Deployment", "Developer Platforms", "Development Environments"),
                    *("Quality Assurance", "Source Code Management"),
                ),
            ),
            ("Multicloud", ("Multicloud Integration",)),
            ("Identity", ("Identity and Access Management",)),
            ("Integration", ("API Management", "Messaging", "Workflow Orchestration")),
            ("Internet of Things", ("IoT Analytics", "IoT Platforms")),
            (
                "Management and Governance",
                (
                    *("Architecture", "Compliance", "Cost Management", "Data Governance", "Disaster Recovery"),
                    *("Endpoint Management", "Observability", "Support"),
                ),
            ),
            ("Media", ("Content Creation", "Gaming", "Media Streaming", "Mixed Reality")),
            ("Migration", ("Data Migration", "Resource Migration")),
            ("Mobile", ()),
            (
                "Networking",
                (
                    *("Application Networking", "Content Delivery", "Network Connectivity", "Network Infrastructure"),
                    *("Network Routing", "Network Security"),
                ),
            ),
            ("Security", ("Secret Management", "Security Posture Management", "Threat Detection and Response")),
            (
                "Storage",
                ("Backup Storage", "Block Storage", "File Storage", "Object Storage", "Storage Platforms"),
            ),
            ("Web", ("Application Platforms",)),
            ("Other", ()),
        )
    }
)
"""For each service category its subcategories."""

CURRENCIES = frozenset(
    (  # noqa: SIM905  a literal list would be 180 lines
        "AED AFN ALL AMD ANG AOA ARS AUD AWG AZN BAM BBD BDT BGN BHD BIF BMD BND BOB BOV BRL BSD BTN BWP BYN BZD CAD "
        "CDF CHE CHF CHW CLF CLP CNY COP COU CRC CUP CVE CZK DJF DKK DOP DZD EGP ERN ETB EUR FJD FKP GBP GEL GHS GIP "
        "GMD GNF GTQ GYD HKD HNL HTG HUF IDR ILS INR IQD IRR ISK JMD JOD JPY KES KGS KHR KMF KPW KRW KWD KYD KZT LAK "
        "LBP LKR LRD LSL LYD MAD MDL MGA MKD MMK MNT MOP MRU MUR MVR MWK MXN MXV MYR MZN NAD NGN NIO NOK NPR NZD OMR "
        "PAB PEN PGK PHP PKR PLN PYG QAR RON RSD RUB RWF SAR SBD SCR SDG SEK SGD SHP SLE SOS SRD SSP STN SVC SYP SZL "
        "THB TJS TMT TND TOP TRY TTD TWD TZS UAH UGX USD USN UYI UYU UYW UZS VED VES VND VUV WST XAF XCD XCG XDR XOF "
        "XPF XSU XUA YER ZAR ZMW ZWG"
    ).split()
)
"""The codes of national currencies and of units of account in use."""

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


CORRECTION = "Correction"
"""The class of charges that correct an earlier invoice."""


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
    """Return whether a text is a unit in the FOCUS format: its words capitalised, listed nouns in the plural."""
    return _UNIT.fullmatch(text) is not None and _SINGULAR.fullmatch(text) is None


VERSIONS = ("1.0", "1.1", "1.2", "1.3", "1.4")
"""The versions of FOCUS that are known here, oldest first."""


class Kind(Enum):
    """Type and text format of a column's values."""

    TEXT = "text"
    NUMBER = "number"
    PRICE = "non-negative number"
    INSTANT = "date/time"
    CURRENCY = "currency"
    UNIT = "unit"
    KEY_VALUE = "key-value JSON"
    OBJECT = "JSON object"

    @property
    def is_number(self) -> bool:
        """True if values are decimal numbers."""
        return self in {Kind.NUMBER, Kind.PRICE}


@dataclass(frozen=True, slots=True)
class Column:
    """A column of the specification.

    Attributes:
        since: the first version that has it.
        until: the last version that has it, None while it has not been removed.
        nullable: whether the format's null is allowed at all; when it is needed is told by the rules.
        mandatory: whether every file must have it, in the versions that have it.
        allowed: the closed list of its values; empty where any is allowed.
    """

    name: str
    kind: Kind = Kind.TEXT
    since: str = "1.0"
    until: str | None = None
    nullable: bool = True
    mandatory: bool = False
    allowed: frozenset[str] = frozenset()

    @property
    def is_number(self) -> bool:
        """True if its values are decimal numbers."""
        return self.kind.is_number

    def is_in(self, version: str) -> bool:
        """Return whether a version has the column."""
        return self.since <= version and (self.until is None or version <= self.until)


def _required(
    name: str,
    kind: Kind = Kind.TEXT,
    since: str = "1.0",
    until: str | None = None,
    allowed: frozenset[str] = frozenset(),
) -> Column:
    return Column(name, kind, since, until, nullable=False, mandatory=True, allowed=allowed)


def _columns() -> Iterable[Column]:  # noqa: PLR0915  a table, one statement a column
    number, price, instant = Kind.NUMBER, Kind.PRICE, Kind.INSTANT
    yield Column("AllocatedMethodDetails", Kind.OBJECT, "1.3")
    for name in ("AllocatedMethodId", "AllocatedResourceId", "AllocatedResourceName"):
        yield Column(name, since="1.3")
    yield Column("AllocatedTags", Kind.KEY_VALUE, "1.3")
    yield Column("AvailabilityZone")
    yield _required("BilledCost", number)
    yield _required("BillingAccountId")
    yield Column("BillingAccountName", mandatory=True)
    yield Column("BillingAccountType", since="1.2", nullable=False)
    yield _required("BillingCurrency", Kind.CURRENCY)
    yield _required("BillingPeriodEnd", instant)
    yield _required("BillingPeriodStart", instant)
    yield Column("CapacityReservationId", since="1.1")
    yield Column("CapacityReservationStatus", since="1.1", allowed=frozenset({"Used", "Unused"}))
    categories = frozenset({"Usage", "Purchase", "Tax", "Credit", "Adjustment"})
    yield _required("ChargeCategory", allowed=categories)
    yield Column("ChargeClass", mandatory=True, allowed=frozenset({CORRECTION}))
    yield Column("ChargeDescription", mandatory=True)
    frequencies = frozenset({"One-Time", "Recurring", "Usage-Based"})
    yield Column("ChargeFrequency", nullable=False, allowed=frequencies)
    yield _required("ChargePeriodEnd", instant)
    yield _required("ChargePeriodStart", instant)
    yield Column("CommitmentDiscountCategory", allowed=frozenset({"Spend", "Usage"}))
    yield Column("CommitmentDiscountId")
    yield Column("CommitmentDiscountName")
    yield Column("CommitmentDiscountQuantity", number, "1.1")
    yield Column("CommitmentDiscountStatus", allowed=frozenset({"Used", "Unused"}))
    yield Column("CommitmentDiscountType")
    yield Column("CommitmentDiscountUnit", Kind.UNIT, "1.1")
    yield Column("CommitmentProgramEligibilityDetails", Kind.OBJECT, "1.4")
    yield Column("ConsumedQuantity", number)
    yield Column("ConsumedUnit", Kind.UNIT)
    yield Column("ContractApplied", Kind.OBJECT, "1.3")
    yield _required("ContractedCost", number)
    yield Column("ContractedUnitPrice", price)
    yield _required("EffectiveCost", number)
    yield Column("HostProviderName", since="1.3", mandatory=True)
    yield Column("InvoiceDetailId", since="1.4")
    yield Column("InvoiceId", since="1.2")
    yield _required("InvoiceIssuerName")
    yield _required("ListCost", number)
    yield Column("ListUnitPrice", price)
    yield Column("PricingCategory", allowed=frozenset({"Standard", "Dynamic", "Committed", "Other"}))
    yield Column("PricingCurrency", since="1.2", nullable=False)
    yield Column("PricingCurrencyContractedUnitPrice", price, "1.2")
    yield Column("PricingCurrencyEffectiveCost", number, "1.2", nullable=False)
    yield Column("PricingCurrencyListUnitPrice", price, "1.2")
    yield Column("PricingQuantity", number, mandatory=True)
    yield Column("PricingUnit", Kind.UNIT, mandatory=True)
    yield _required("ProviderName", until="1.3")
    yield _required("PublisherName", until="1.3")
    for name in ("RegionId", "RegionName", "ResourceId", "ResourceName", "ResourceType"):
        yield Column(name)
    yield _required("ServiceCategory", allowed=frozenset(SUBCATEGORIES))
    yield _required("ServiceName")
    yield _required("ServiceProviderName", since="1.3")
    subcategories = frozenset().union(*SUBCATEGORIES.values())
    yield Column("ServiceSubcategory", since="1.1", nullable=False, allowed=subcategories)
    yield Column("SkuId")
    yield Column("SkuMeter", since="1.1")
    yield Column("SkuPriceDetails", Kind.KEY_VALUE, "1.1")
    yield Column("SkuPriceId")
    yield Column("SubAccountId")
    yield Column("SubAccountName")
    yield Column("SubAccountType", since="1.2")
    yield Column("Tags", Kind.KEY_VALUE)


COLUMNS: Mapping[str, Column] = MappingProxyType({column.name: column for column in _columns()})
"""Every column of any version, by name, in the specification's alphabetical order."""

_OTHER_DATA_SETS = MappingProxyType(
    {
        "Contract Commitment": frozenset({"ContractCommitmentId", "ContractCommitmentCategory", "ContractId"}),
        "Billing Period": frozenset({"BillingPeriodStatus", "BillingPeriodLastUpdated", "BillingPeriodCreated"}),
        "Invoice Detail": frozenset({"InvoiceDetailGrain", "InvoiceIssueStatus", "PaymentTerms"}),
    }
)
"""For each other data set of FOCUS 1.4, columns that only it has."""


def columns_of(version: str) -> list[Column]:
    """Return a version's columns in alphabetical order."""
    return [column for column in COLUMNS.values() if column.is_in(version)]


def is_custom(name: str) -> bool:
    """Return whether a column's name marks it as not of the specification."""
    return name.startswith("x_")


def other_data_set(header: Iterable[str]) -> str | None:
    """Return the name of the FOCUS data set that a header belongs to where it is not Cost and Usage."""
    names = set(header)
    found = [name for name, own in _OTHER_DATA_SETS.items() if len(own & names) > 1]
    return found[0] if found and not {"ChargePeriodStart", "EffectiveCost"} & names else None


def version_of(header: Iterable[str]) -> str:
    """Return the version that a header is of: the oldest whose columns it fits best."""
    names = set(header)

    def misfits(version: str) -> int:
        absent = sum(column.mandatory and column.name not in names for column in columns_of(version))
        return absent + sum(name in names and not column.is_in(version) for name, column in COLUMNS.items())

    return min(VERSIONS, key=misfits)
