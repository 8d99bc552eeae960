"""Prometheus and Alertmanager with the rules and the example configuration, an exporter, and a fal that goes wrong.

What takes minutes is made quicker: every `for` and `keep_firing_for` of the alerts lasts a 120th of its time (a tenth
where the exporter itself is in doubt), polls come every ten seconds, and Alertmanager gathers for a second. Its
receivers all post to one that keeps what it is sent. Nothing else of the files that are shipped is changed.
"""

import re
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest
import yaml
from alert_tables import FILES, RULES
from e2e.alerting import Alertmanager, Post, Receiver, alertmanager_on, receiver
from e2e.processes import Exporter, Fal, exporter_of, fal_in_a_thread, free_port, wait_until

from exporter.charges import NANO, hour_of, utc_now
from exporter.simulator import Fault, GlitchedJob, PlantedSpend

Program = Callable[[str, str], str]

QUICKER = 120
PATIENT, QUICKER_PATIENT = {"FalExporterDown", "FalPublicationStalled"}, 10
"""A machine that is busy with other tests may leave out a few scrapes in a row; that is no exporter that is down.

Nor is one stalled that gathers the changes of some seconds, as it does where each publication takes long.
"""

ENOUGH = 8
"""Scrapes, one a second and a few of the test's own, after which whatever is wrong at the start would be told of."""

SECONDS = {"m": 60, "h": 3600}
CONFIGURATION = RULES.parent / "alertmanager" / "alertmanager.yaml"
BUDGETS = """
budgets:
  - {name: everything, amount: 30000, period: month, thresholds: [80%]}
"""
OWN_THRESHOLD = """
      - record: fal:threshold_credit_balance_usd
        expr: vector(10000)
        labels: {account: default}
"""
PROMETHEUS = """
global: {{scrape_interval: 1s, scrape_timeout: 1s, evaluation_interval: 1s}}
rule_files: [thresholds.yaml, recording.yaml, alerts.yaml]
scrape_configs:
  - job_name: spend
    static_configs: [targets: ["127.0.0.1:{exporter}"]]
alerting:
  alertmanagers:
    - static_configs: [targets: ["{alertmanager}"]]
"""


@dataclass
class Story:
    """Events as Alertmanager has told them to others.

    Attributes:
        polls: how often the usage of models was asked for between the charge and the message about it.
        quiet: what was told of before anything went wrong.
        silenced: the alerts that others silenced, while the account was locked.
        restated: whether the hour of the charge was over before the charge was taken back: a change of a complete hour.
    """

    received: Receiver
    quiet: list[Post] = field(default_factory=list)
    polls: int = 0
    silenced: set[str] = field(default_factory=set)
    restated: bool = False

    def told(self, receiver: str, status: str) -> list[str]:
        """Return what a receiver was told, alert by alert, in order."""
        return [name for post in self.received.sent_to(f"/{receiver}") for name in sorted(post.alerts(status))]


def quicker(rules: str) -> str:
    document = yaml.safe_load(rules)
    for rule in (rule for group in document["groups"] for rule in group["rules"]):
        for wait in {"for", "keep_firing_for"} & rule.keys():
            milliseconds = int(rule[wait][:-1]) * SECONDS[rule[wait][-1]] * 1000
            rule[wait] = f"{milliseconds // (QUICKER if rule['alert'] not in PATIENT else QUICKER_PATIENT)}ms"
    text: str = yaml.safe_dump(document, sort_keys=False)
    return text


@contextmanager
def prometheus_on(exporter: Exporter, alertmanager: Alertmanager, folder: Path, program: Program) -> Iterator[None]:
    for file in FILES:
        text = (RULES / f"{file}.yaml").read_text(encoding="utf-8")
        changed = {"alerts": quicker, "thresholds": lambda shipped: shipped + OWN_THRESHOLD}.get(file, str)(text)
        (folder / f"{file}.yaml").write_text(changed)
    target = alertmanager.url.removeprefix("http://")
    (folder / "prometheus.yaml").write_text(PROMETHEUS.format(exporter=exporter.port, alertmanager=target))
    with (folder / "prometheus.log").open("wb") as log:
        process = subprocess.Popen(
            [
                program("prometheus", "prometheus"),
                f"--config.file={folder}/prometheus.yaml",
                f"--storage.tsdb.path={folder}/data",
                f"--web.listen-address=127.0.0.1:{free_port()}",
            ],
            stdout=log,
            stderr=subprocess.STDOUT,
        )
    try:
        yield
    finally:
        process.terminate()
        process.wait(20)


def posted_to(received: Receiver) -> str:
    """Return the example's configuration with every receiver a webhook of its own name, and quicker."""
    configuration = yaml.safe_load(CONFIGURATION.read_text(encoding="utf-8"))
    configuration["receivers"] = [
        {"name": made["name"], "webhook_configs": [{"url": f"{received.url}/{made['name']}"}]}
        for made in configuration["receivers"]
    ]
    del configuration["templates"]
    text: str = yaml.safe_dump(configuration)
    return re.sub(r"(group_wait|group_interval): \w+", r"\1: 1s", text)


@pytest.fixture(scope="module")
def story(program: Program, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Story]:
    folder = tmp_path_factory.mktemp("alerts")
    (folder / "budgets.yaml").write_text(BUDGETS)
    settings = {"HISTORY": "auto", "CONFIG_FILE": str(folder / "budgets.yaml")}
    with fal_in_a_thread() as fal, exporter_of(fal, folder, **settings) as exporter, receiver() as received:
        fal.simulator.faults.add(Fault("balance", amount=1_000_000 * NANO))
        exporter.start()
        (folder / "alertmanager.yaml").write_text(posted_to(received))
        wait_until(exporter.is_ready, "the exporter is ready")
        with (
            alertmanager_on(folder / "alertmanager.yaml", folder, program) as alertmanager,
            prometheus_on(exporter, alertmanager, folder, program),
        ):
            yield told(Story(received), fal, exporter, alertmanager)


def told(story: Story, fal: Fal, exporter: Exporter, alertmanager: Alertmanager) -> Story:
    faults = fal.simulator.faults

    def balance(dollars: float) -> None:
        faults.remove("balance")
        faults.add(Fault("balance", amount=int(dollars * NANO)))

    def until_told(receiver: str, alert: str, status: str = "firing") -> None:
        wait_until(lambda: alert in story.told(receiver, status), f"{receiver} is told that {alert} is {status}")

    (left,) = wait_until(lambda: exporter.scrape().get("fal_credit_runway_seconds", {}).values(), "a runway is known")
    burn = 1_000_000 / left
    wait_until(lambda: exporter.scrape().get("fal_model_first_seen_timestamp_seconds"), "the history is loaded")
    wait_until(lambda: sum(exporter.scrape()["fal_exporter_scrapes_total"].values()) > ENOUGH, "it has been watched")
    story.quiet = list(story.received.posts)

    asked = fal.simulator.seen["/v1/models/usage"]
    faults.add(PlantedSpend(int(fal.now.timestamp()) // 3600, GlitchedJob().line(40_500 * NANO)))
    until_told("fal-pagerduty", "FalSpendAboveHourlyLimit")
    story.polls = fal.simulator.seen["/v1/models/usage"] - asked
    for who, alert in (
        ("fal-slack", "FalNewModelSpending"),
        ("fal-email", "FalBudgetExceeded"),
        ("fal-slack", "FalBudgetBurnFast"),
    ):
        until_told(who, alert)

    fal.simulator.account.plant(())
    story.restated = hour_of(utc_now()) > hour_of(fal.now)  # fal's clock stands still, the exporter's does not
    balance(burn * 12 * 3600)
    until_told("fal-email", "FalCreditBalanceLow")
    balance(burn * 3 * 3600)
    until_told("fal-pagerduty", "FalCreditRunwayShort")
    faults.add(Fault("locked"))
    until_told("fal-pagerduty", "FalAccountLocked")
    silenced = alertmanager.is_inhibited().items()
    story.silenced = {dict(labels)["alertname"] for labels, is_silenced in silenced if is_silenced}
    faults.remove("locked")
    balance(1_000_000)
    for alert in ("FalAccountLocked", "FalCreditRunwayShort", "FalSpendAboveHourlyLimit", "FalBudgetBurnFast"):
        for who in ("fal-pagerduty", "fal-webhook", "fal-slack"):  # each groups, and so waits, by itself
            until_told(who, alert, "resolved")
    for who, alert in (
        ("fal-email", "FalCreditBalanceLow"),
        ("fal-email", "FalBudgetExceeded"),
        ("fal-slack", "FalNewModelSpending"),
    ):
        until_told(who, alert, "resolved")
    return story


NEW_KEY: set[str] = {"FalApiKeyCreated"} if time.time() // 3600 % (60 * 24) < 24 else set()
"""The simulated organization creates a key every 60 days, and what is a day old is news."""

CRITICAL = ["FalAccountLocked", "FalBudgetBurnFast", "FalCreditRunwayShort", "FalSpendAboveHourlyLimit"]


def test_a_busy_account_that_is_well_is_not_spoken_of(story: Story) -> None:
    assert [post.body for post in story.quiet] == []


def test_a_glitch_of_40500_dollars_is_told_of_by_the_second_poll(story: Story) -> None:
    assert story.polls <= 2


def test_each_alert_that_wakes_somebody_does_so_once_and_says_when_it_is_over(story: Story) -> None:
    assert sorted(story.told("fal-pagerduty", "firing")) == CRITICAL
    assert sorted(story.told("fal-pagerduty", "resolved")) == CRITICAL
    assert sorted(story.told("fal-webhook", "firing")) == CRITICAL
    assert sorted(story.told("fal-webhook", "resolved")) == CRITICAL


def test_nobody_is_told_of_anything_else(story: Story) -> None:
    assert set(story.told("fal-slack", "firing")) == {*CRITICAL, "FalNewModelSpending", *NEW_KEY}
    # Where an alert ends with the one that silenced it, its end is told of too.
    assert set(story.told("fal-slack", "resolved")) - {"FalSpendUnusual"} == {*CRITICAL, "FalNewModelSpending"}
    email = set(story.told("fal-email", "firing"))
    # The clock is the machine's: where an hour ends within the story, what is taken back is a restatement, and large.
    assert email - ({"FalLargeRestatement"} if story.restated else set()) == {
        "FalBudgetBurnFast",
        "FalBudgetExceeded",
        "FalCreditBalanceLow",
        "FalCreditRunwayShort",
    }


def test_a_lock_silences_what_it_follows_from(story: Story) -> None:
    assert {"FalCreditBalanceLow", "FalCreditRunwayShort"} <= story.silenced
    assert story.silenced <= {"FalCreditBalanceLow", "FalCreditRunwayShort", "FalPollFailing"}


def test_the_message_says_what_is_spent_on_what(story: Story) -> None:
    (glitch,) = (
        post
        for post in story.received.sent_to("/fal-webhook")
        if "$40,5" in post.body and post.alerts("firing") == {"FalSpendAboveHourlyLimit"}
    )
    said = re.search(r'"summary":"([^"]*)"', glitch.body)
    assert said is not None
    assert re.fullmatch(r"The fal account default has spent \$40,5\d\d\.\d\d in one hour\.", said[1])
    assert "went to fal-ai/glitched-job: $40,500.00." in glitch.body
