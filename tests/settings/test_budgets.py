from decimal import Decimal
from fractions import Fraction
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest

from exporter.errors import ConfigurationError
from exporter.settings import load_settings

pytestmark = pytest.mark.usefixtures("in_testdata")


def problems(file: str) -> list[str]:
    with pytest.raises(ConfigurationError) as caught:
        load_settings({"config_file": file})
    return [line.removeprefix(f"{file}: ") for line in str(caught.value).splitlines()]


def test_budgets_are_read_as_they_were_meant() -> None:
    everything, video, daily = load_settings({"config_file": "good-budgets.yaml"}).budgets
    assert (everything.name, everything.amount, everything.period) == ("everything", Decimal(25000), "month")
    assert everything.match == {}
    assert everything.thresholds == (Fraction(1, 2), Fraction(4, 5), Fraction(1))
    assert everything.zone(ZoneInfo("Europe/Berlin")).key == "Europe/Berlin"
    assert (video.amount, video.period) == (Decimal("1500.5"), "week")
    assert video.zone(ZoneInfo("Europe/Berlin")).key == "America/New_York"
    assert video.match == {
        "account": ("studio", "research-*"),
        "product": ("model_apis",),
        "model": ("*video*", "fal-ai/veo3"),
    }
    assert video.thresholds == (Fraction(3, 4), Fraction(181, 200), Fraction(1), Fraction(6, 5))
    assert daily.amount == Decimal("0.000000001")
    assert daily.thresholds == (Fraction(1),)


def test_every_bad_budget_is_named_by_its_place() -> None:
    wants = "write it like 1500 or 1500.50"
    assert problems("bad-budgets.yaml") == [
        (
            "budgets[0].name: is not a budget's name, which becomes the value of the budget label; choose 1 to 100 "
            "printable characters without leading or trailing spaces"
        ),
        "budgets[1].name: is missing; add it",
        'budgets[2].amount: "0" is not above 0; write the amount that may be spent',
        'budgets[3].amount: "-5" is not above 0; write the amount that may be spent',
        f'budgets[4].amount: "$100" is not an amount of US dollars; {wants}, without a currency',
        f'budgets[5].amount: "True" is not an amount of US dollars; {wants}',
        'budgets[6].amount: "nan" is not an amount of US dollars with at most nine decimal places',
        'budgets[7].amount: "0.0000000001" is not an amount of US dollars with at most nine decimal places',
        'budgets[8].amount: "1e30" is more than a ledger can hold',
        'budgets[9].period: "year" is not one of day, week, month',
        'budgets[10].timezone: "Europe/Berlyn" is not an IANA time zone; did you mean Europe/Berlin?',
        (
            'budgets[11].match: "serverless" is not a mapping of labels to globs; write it like {product: serverless, '
            'app: "video-*"}'
        ),
        'budgets[12].match: names the unknown label "modle"; did you mean model?',
        (
            'budgets[13].match: names the unknown label "colour"; choose some of account, team, product, model, app, '
            "environment, gpu_class, api_key, member, surge"
        ),
        "budgets[14].match: has neither a glob nor a list of globs for model; put each glob in quotes",
        "budgets[15].match: has neither a glob nor a list of globs for model; put each glob in quotes",
        'budgets[16].thresholds: "0.8" is not a percentage between 1% and 1000%; write it like 80%',
        'budgets[17].thresholds: "80%,80" contains a threshold twice; list each once',
        'budgets[18].thresholds: "half" is not a percentage between 1% and 1000%; write it like 80%',
        "budgets[19].limit: is not a setting of a budget",
        "budgets[20]: is not a budget; a budget has a name and an amount",
    ]


def budgets_file(folder: Path, text: str) -> str:
    path = folder / "budgets.yaml"
    path.write_text(f"key: a:b\n{text}")
    return str(path)


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("budgets: 5", "budgets: is not a list; each of its entries has a name and an amount"),
        (
            "budgets: [{name: '{a}', amount: 1}, {name: '{a}', amount: 2}]",
            'budgets: the name "{a}" is given to 2 budgets; give each budget its own name',
        ),
        (
            "account: studio\nbudgets: [{name: b, amount: 1, match: {account: research-*}}]",
            'budgets: the budget "b" matches none of the accounts (studio); use the names of configured accounts',
        ),
        (
            "tags: feature\nbudgets: [{name: b, amount: 1, match: {'tag:customer': acme}}]",
            (
                'budgets: the budget "b" matches tag:customer, by which spend is not read; add its key to '
                "FAL_EXPORTER_TAGS"
            ),
        ),
        (
            "tags: customer\nbudgets: [{name: b, amount: 1, match: {'tag:customer': acme, app: x}}]",
            "budgets[0].match: combines a tag with app; spend by tags is known by account and model only",
        ),
    ],
)
def test_budgets_that_cannot_be_meant_are_refused_in_a_sentence(text: str, problem: str, tmp_path: Path) -> None:
    assert problems(budgets_file(tmp_path, text)) == [problem]


def test_budgets_are_no_setting_of_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FAL_EXPORTER_BUDGETS", "all=100")
    assert (
        "FAL_EXPORTER_BUDGETS is not a setting; list budgets in a file named by FAL_EXPORTER_CONFIG_FILE"
        in problems("good-single.yaml")
    )
