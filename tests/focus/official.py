"""Asks the official validator for its judgement of what we write: `python tests/focus/official.py`.

Not part of the tests, as it needs Python 3.12 and about 650 MB: `python3.12 -m venv V` and
`V/bin/pip install 'focus-validator==2.2.1' 'pyarrow<26'`; then name V in FOCUS_VALIDATOR. It takes about four minutes.
Judged are files of every granularity, and one without its empty columns. The exit code is 0 where nothing fails but

- the two rules on InvoiceId whose conditions are empty, so that one of them fails for every file (FOCUS_Spec#2394);
- in the file without its empty columns, rules that look at one of those.

Then our own check is judged: of a file with a row of every kind of charge, which breaks nothing to us, and of that file
with mutations of all rules of a kind. The validator may find nothing that we do not, but for what `MISTAKEN` lists with
its reason, and what is in a column that we tell to be wrong (one mistake is one finding to us).

The program itself ends with 0 whatever fails, so its report is read. As published its rules do not look at prices,
costs and SKUs of ordinary rows: it takes `ChargeClass is not "Correction"` for false where ChargeClass is null
(FOCUS_Spec#2681). So each file is judged twice, the second time by a copy of the rules that says null there, which is
the same for files without corrections; and that copy must find fault with a file that has been spoiled.
"""

import csv
import dataclasses
import io
import json
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import NamedTuple

from exporter.charges import NANO, SURGE, Amounts, Charge, Dimensions, Window
from exporter.focus.charge import FocusCharge, Granularity, Price, PriceHistory, focus_charges
from exporter.focus.rules.table import Kind, Rule, by_id, criteria, rules
from exporter.focus.writer import write

# As a program it begins with its own folder, beside which the mutations are.
sys.path.append(str(Path(__file__).parent.parent))
from focus.rules import mutations
from focus.rules.test_mutations import IMPLIED

KNOWN = {"InvoiceId-C-004-C", "InvoiceId-C-005-C"}
CRITERIA = (
    *("UNIT_PRICING_SUPPORTED", "PUBLIC_PRICE_LIST_SUPPORTED", "PRICING_BILLING_CURRENCY_DIFFERENCES_SUPPORTED"),
    *("USAGE_MEASUREMENT_SUPPORTED", "NEGOTIATED_PRICING_SUPPORTED", "SUB_ACCOUNT_SUPPORTED", "TAGGING_SUPPORTED"),
)
WINDOW = Window(datetime(2026, 10, 28, tzinfo=UTC), datetime(2026, 11, 4, tzinfo=UTC))
_MODEL = "model-1.2.0.1.json"


class Line(NamedTuple):
    """Charge of every hour, in nano-units.

    Attributes:
        price: that is charged.
        percent: of discount.
        stated: the price that fal tells, None for none.
        idle: nothing was used.
    """

    dimensions: Dimensions
    price: int
    percent: int = 0
    stated: Price | None = None
    idle: bool = False


H100 = Dimensions("main", "blue", "serverless", "", "shop", "prod", "H100", "second")
H200 = Dimensions("main", "", "serverless", "", "train", "", "H200", "second")
LINES = (
    Line(Dimensions("main", "red", "model_apis", "fal-ai/flux/dev", unit="image", api_key="key-1"), 25_000_000, 0,
         Price(25_000_000, 0)),
    Line(Dimensions("main", "", "model_apis", "fal-ai/veo3", unit="second"), 400_000_000, 10,
         Price(400_000_000, 10 * NANO)),
    Line(Dimensions("main", "", "model_apis", "fal-ai/mesh", unit="3d-mesh"), 7_777_777),
    Line(H100, 1_234_567),
    Line(H100._replace(surge=SURGE), 1_975_308),
    # What fal states is its ordinary price, so that the cost at surge prices is not price times quantity.
    Line(H200, 1_250_000, 0, Price(1_250_000, 0)),
    Line(H200._replace(surge=SURGE), 1_875_000, 0, Price(1_250_000, 0)),
    Line(Dimensions("main", "", "compute", "", "", "", "B200", "second"), 1_500_001, 5, Price(1_400_000, 0)),
    # Units for which nothing is charged: with a price of its own, with none, and with another's.
    Line(Dimensions("main", "", "model_apis", "fal-ai/free", unit="image"), 0, 0, Price(0, 0)),
    Line(Dimensions("main", "", "model_apis", "fal-ai/gift", unit="image"), 30_000_000, 100),
    Line(Dimensions("main", "", "model_apis", "fal-ai/trial", unit="video"), 0, 0, Price(500_000_000, 0)),
    Line(Dimensions("main", "", "model_apis", "fal-ai/idle", unit="video"), 0, 0, Price(500_000_000, 0), idle=True),
)  # fmt: skip
FEE = Charge(WINDOW.start, Dimensions("main", "", "model_apis", "fal-ai/fee", unit="image"), Amounts(0, 0, 5, 1, 4))
"""A cost without a quantity."""


def every_kind(granularity: Granularity) -> Iterator[FocusCharge]:
    """Yield charges of every kind that a ledger can hold, as they are written."""
    prices = {(*line.dimensions[:1], *line.dimensions[2:5], *line.dimensions[6:8]): line.stated for line in LINES}
    stated = {key: PriceHistory(price) for key, price in prices.items() if price is not None}
    return focus_charges([FEE, *_charges()], WINDOW, granularity, stated)


def _charges() -> Iterator[Charge]:
    for place, hour in enumerate(WINDOW.hours()):
        for line in LINES:
            quantity = 0 if line.idle else place * 7 * NANO // 3 + 1
            list_cost = quantity * line.price // NANO
            discount = list_cost * line.percent // 100
            gpu_seconds = quantity if line.dimensions.gpu_class else 0
            yield Charge(
                hour, line.dimensions, Amounts(quantity, gpu_seconds, list_cost, discount, list_cost - discount)
            )


class File(NamedTuple):
    """A file to judge, and the columns that were left out of it."""

    data: bytes
    left_out: frozenset[str] = frozenset()


def file_of(granularity: Granularity, *, omit_empty_columns: bool = False) -> File:
    file = io.BytesIO()
    every = write((), io.BytesIO(), version="1.2").columns
    result = write(every_kind(granularity), file, version="1.2", omit_empty_columns=omit_empty_columns)
    return File(file.getvalue(), frozenset(every) - frozenset(result.columns))


def spoiled(file: File) -> File:
    """Return the file with one cost that is a cent more than its price times its quantity."""
    rows = list(csv.reader(io.StringIO(file.data.decode())))
    cost = rows[0].index("ContractedCost")
    rows[-1][cost] = str(Decimal(rows[-1][cost]) + Decimal("0.01"))
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows(rows)
    return File(text.getvalue().encode())


def without_blind_spots(model: object) -> object:
    """Return rules that look at rows whose ChargeClass, or CommitmentDiscountStatus, is null."""
    if isinstance(model, list):
        return [without_blind_spots(item) for item in model]
    if not isinstance(model, dict):
        return model
    if model.get("CheckFunction") == "CheckNotValue" and model.get("Value") in {"Correction", "Unused"}:
        return model | {"CheckFunction": "CheckValue", "Value": None}
    return {key: without_blind_spots(value) for key, value in model.items()}


def rules_that_look_at(columns: frozenset[str], rules: dict[str, object]) -> set[str]:
    """Return the rules that name one of the columns, themselves or by another rule."""
    texts = {rule: json.dumps(content) for rule, content in rules.items()}
    wanted = set(columns)
    found: set[str] = set()
    while True:
        more = {
            rule for rule, text in texts.items() if rule not in found and any(f'"{name}"' in text for name in wanted)
        }
        if not more:
            return found
        found |= more
        wanted = {rule for rule in more if not rule.startswith("CostAndUsage-")}


MISTAKEN: Mapping[str, str] = {
    **dict.fromkeys(KNOWN, "the model leaves out the conditions (FOCUS_Spec#2394)"),
    **dict.fromkeys(
        ("CapacityReservationStatus-C-003-C", "CapacityReservationStatus-C-004-C"),
        "the program drops conditions written as {AND: ...} (focus_validator#142)",
    ),
    "CommitmentDiscountStatus-C-004-C": "the model has null for not null",
    "ConsumedQuantity-C-006-C": "the model has `is` for `is not` Correction",
    "EffectiveCost-C-005-C": "not every purchase covers later charges (FOCUS_Spec#2673)",
    "PricingCurrency-C-003-M": "prices may be in a virtual currency",
    "PricingCurrencyEffectiveCost-C-004-M": "the model looks at PricingCurrencyListUnitPrice",
}
"""Rules that fail for files that are right, and why."""

OF_ROWS = (
    *(Kind.NULL, Kind.NOT_NULL, Kind.ALLOWED, Kind.EQUAL, Kind.UNEQUAL, Kind.PRODUCT, Kind.AT_LEAST, Kind.MEMBER),
    *(Kind.ONE_OF_EACH, Kind.NATIONAL, Kind.FORMAT, Kind.TYPE, Kind.FINITE, Kind.START, Kind.EXCLUSIVE_END, Kind.KEYS),
)
"""Kinds of rules that rows break."""


def mutated(kind: Kind) -> mutations.File:
    """Return the base file with rows that break the rules of a kind, each one of them."""
    rows = [
        row
        for rule in rules()
        if rule.kind is kind and rule.is_in("1.2")
        for file in [mutations.mutation(rule, "1.2", IMPLIED.get(rule.id, set()))[0]]
        if not file.raw
        for row in file.rows
    ]
    file = mutations.base("1.2")
    return dataclasses.replace(file, rows=(*file.rows, *rows), needs=tuple(criteria()))


def unseen(validator: "Validator", file: mutations.File) -> set[str]:
    """Return the rules that fail for a file, without a finding of ours that says so."""
    report = file.checked()
    ours = {rule.id for rule, count in report.broken.items() if count}
    flagged = {column for rule in report.findings.counts for column in rule.columns}
    failed = validator.failed(File(file.written), seeing=True, criteria=("ALL",)) - ours - set(MISTAKEN)
    # A composite fails where a part does.
    return {
        name for name in failed if by_id()[name].kind is not Kind.COMPOSITE and not flagged & looked_at(by_id()[name])
    }


def looked_at(rule: Rule) -> set[str]:
    """Return the columns that a rule looks at, and those of the rules that it is the same as."""
    if rule.kind is Kind.SAME_AS:
        return {column for name in rule.values for column in by_id()[name].columns}
    return {*rule.columns}


class Validator:
    """The official validator in its environment.

    Args:
        environment: the folder of the virtual environment that it is installed in.
        folder: where to work.
    """

    def __init__(self, environment: Path, folder: Path) -> None:
        self._program = environment / "bin" / "focus-validator"
        (package,) = environment.glob("lib/python3.*/site-packages/focus_validator")
        self._folder = folder
        # It opens a file of its own by a path that begins where it is started.
        (folder / "focus_validator").symlink_to(package)
        model = json.loads((package / "rules" / _MODEL).read_text(encoding="utf-8"))
        self.rules: dict[str, object] = model["ModelRules"]
        seeing = folder / "seeing"
        seeing.mkdir()
        (seeing / _MODEL).write_text(json.dumps(without_blind_spots(model)), encoding="utf-8")

    def failed(self, file: File, *, seeing: bool = False, criteria: Sequence[str] = CRITERIA) -> set[str]:
        """Return the rules that a file breaks, of the published rules or of those without blind spots."""
        (self._folder / "out.csv").write_bytes(file.data)
        command = [str(self._program), "--data-file", "out.csv", "--focus-dataset", "CostAndUsage"]
        command += ["--validate-version", "1.2.0.1", "--block-download", "--show-violations"]
        command += ["--applicability-criteria", ",".join(criteria)]
        command += ["--rule-set-path", "seeing"] if seeing else []
        told = subprocess.run(command, cwd=self._folder, capture_output=True, text=True, check=True).stdout
        totals = re.search(r"Total: \d+ \|.*", told)
        if totals is None:
            raise SystemExit(told)
        print(" ", totals[0])
        return set(re.findall(r"([\w-]+): FAIL", told))


def main() -> int:
    hours, lean = file_of(Granularity.HOUR), file_of(Granularity.HOUR, omit_empty_columns=True)
    with tempfile.TemporaryDirectory() as folder:
        validator = Validator(Path(os.environ["FOCUS_VALIDATOR"]).absolute(), Path(folder))
        wrong = set()
        for granularity in Granularity:
            for seeing in (False, True):
                print(f"{granularity.value}, rules {'without blind spots' if seeing else 'as published'}")
                wrong |= validator.failed(file_of(granularity), seeing=seeing) - KNOWN
        print("hour, without", ", ".join(sorted(lean.left_out)))
        wrong |= validator.failed(lean) - KNOWN - rules_that_look_at(lean.left_out, validator.rules)
        print("a file of every kind of charge")
        wrong |= unseen(validator, mutations.base("1.2"))
        for kind in OF_ROWS:
            print("with mutations of the kind", kind.value)
            wrong |= unseen(validator, mutated(kind))
        print("spoiled, rules without blind spots")
        if not validator.failed(spoiled(hours), seeing=True) - KNOWN:
            wrong.add("nothing in the spoiled file")
    print("failed that should not:", ", ".join(sorted(wrong)) or "nothing")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
