"""Asks the official validator for its judgement of what we write: `python tests/focus/official.py`.

Not part of the tests, as it needs Python 3.12 and about 650 MB: `python3.12 -m venv V` and
`V/bin/pip install 'focus-validator==2.2.1' 'pyarrow<26'`; then name V in FOCUS_VALIDATOR. The exit code is 0 where
nothing fails but the two rules on InvoiceId whose conditions are empty, so that one of them fails for every file
(FOCUS_Spec#2394). The program itself ends with 0 whatever fails, so its report is read.
"""

import os
import re
import subprocess
import sys
import tempfile
from datetime import UTC, datetime
from pathlib import Path

from exporter.charges import HOUR, NANO, Amounts, Dimensions
from exporter.focus.charge import FocusCharge, Price
from exporter.focus.writer import write

START = datetime(2026, 10, 1, tzinfo=UTC)
KNOWN = {"InvoiceId-C-004-C", "InvoiceId-C-005-C"}
CRITERIA = (
    *("UNIT_PRICING_SUPPORTED", "PUBLIC_PRICE_LIST_SUPPORTED", "PRICING_BILLING_CURRENCY_DIFFERENCES_SUPPORTED"),
    *("USAGE_MEASUREMENT_SUPPORTED", "NEGOTIATED_PRICING_SUPPORTED", "SUB_ACCOUNT_SUPPORTED", "TAGGING_SUPPORTED"),
)
LINES = (
    (Dimensions("main", "red", "model_apis", "fal-ai/flux/dev", unit="image", api_key="key-1"), Price(25_000_000, 0)),
    (Dimensions("main", "", "model_apis", "fal-ai/veo3", unit="second"), Price(400_000_000, 10 * NANO)),
    (Dimensions("main", "blue", "serverless", "", "shop", "prod", "H100", "second"), None),
    (Dimensions("main", "", "compute", "", "train", "", "H200", "second"), Price(1_250_000, 0)),
)


def charges() -> list[FocusCharge]:
    found = []
    for place in range(200):
        dimensions, price = LINES[place % len(LINES)]
        quantity = place * 7 * NANO // 3 + 1
        list_cost = quantity * (price.unit_price if price else 1_234_567) // NANO
        discount = list_cost * (price.discount if price else 0) // (100 * NANO)
        start = START + place * HOUR
        amounts = Amounts(quantity, quantity if dimensions.gpu_class else 0, list_cost, discount, list_cost - discount)
        found.append(FocusCharge(start, start + HOUR, dimensions, amounts, price))
    return found


def main() -> int:
    environment = Path(os.environ["FOCUS_VALIDATOR"]).absolute()
    (package,) = environment.glob("lib/python3.*/site-packages/focus_validator")
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "out.csv")
        with path.open("wb") as file:
            write(charges(), file, version="1.2")
        # It opens a file of its own by a path that begins where it is started.
        Path(folder, "focus_validator").symlink_to(package)
        command = [str(environment / "bin" / "focus-validator"), "--data-file", path.name]
        command += ["--validate-version", "1.2.0.1", "--focus-dataset", "CostAndUsage", "--block-download"]
        command += ["--applicability-criteria", ",".join(CRITERIA), "--show-violations"]
        told = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=True).stdout
    totals = re.search(r"Total: \d+ \|.*", told)
    failed = set(re.findall(r"([\w-]+): FAIL", told))
    if totals is None:
        print(told)
        return 2
    print(totals[0])
    print("failed:", ", ".join(sorted(failed)) or "nothing")
    return 1 if failed - KNOWN else 0


if __name__ == "__main__":
    sys.exit(main())
