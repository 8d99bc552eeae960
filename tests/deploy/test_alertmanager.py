"""The example configuration of Alertmanager: who is told what, what is kept quiet, and how it reads."""

import json
import re
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml
from alert_tables import rules
from e2e.alerting import Receiver, alertmanager_on, receiver
from e2e.processes import wait_until

Program = Callable[[str, str], str]

FOLDER = Path(__file__).parent.parent.parent / "deploy" / "alertmanager"
CONFIGURATION = FOLDER / "alertmanager.yaml"
ALERTS = {rule.name: rule.labels["severity"] for rule in rules("alerts")}

TOLD = {
    "FalAccountLocked": "fal-pagerduty,fal-webhook,fal-slack",
    "FalExporterDown": "fal-pagerduty,fal-webhook,fal-slack",
    "FalLedgerLost": "fal-pagerduty,fal-webhook,fal-slack",
    "FalSpendAboveHourlyLimit": "fal-pagerduty,fal-webhook,fal-slack",
    "FalBudgetBurnFast": "fal-pagerduty,fal-webhook,fal-email,fal-slack",
    "FalBudgetExceeded": "fal-email",
    "FalBudgetThresholdReached": "fal-email",
    "FalCreditBalanceLow": "fal-email",
    "FalInvoiceOverdue": "fal-email",
    "FalProviderBudgetNear": "fal-email",
    "FalLargeRestatement": "fal-email",
    "FalAppIdle": "fal-slack",
    "FalBurnCeilingAboveBudget": "fal-slack",
    "FalQueueGrowing": "fal-slack",
    "FalReplicaDown": "fal-slack",
    "FalReplicaImpaired": "fal-slack",
    "FalSpendUnusual": "fal-slack",
    "FalUsageDataStale": "fal-slack",
    "FalAccessFileBroken": "fal-slack",
    "FalFocusPushFailing": "fal-slack",
    "FalBookingsDiffer": "fal-slack",
    "FalBookingsNotCompared": "fal-slack",
    "FalRemoteWriteFailing": "fal-slack",
    "FalSeriesOverflow": "fal-slack",
    "HostOutOfMemory": "nobody",
}


def amtool(program: Program, *arguments: str | Path) -> str:
    found = program("amtool", "prometheus-alertmanager")
    done = subprocess.run([found, *arguments], capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_amtool_finds_nothing_wrong(program: Program) -> None:
    assert "FAILED" not in amtool(program, "check-config", CONFIGURATION)


@pytest.mark.parametrize("alert", TOLD)
def test_each_alert_goes_to_those_whom_it_concerns(alert: str, program: Program) -> None:
    labels = [f"alertname={alert}", f"severity={ALERTS.get(alert, 'critical')}", "account=studio"]
    amtool(
        program,
        "config",
        "routes",
        "test",
        f"--config.file={CONFIGURATION}",
        f"--verify.receivers={TOLD[alert]}",
        *labels,
    )


def test_every_alert_that_the_configuration_names_exists() -> None:
    configuration = yaml.safe_load(CONFIGURATION.read_text(encoding="utf-8"))
    for rule in configuration["inhibit_rules"]:
        for matcher in (*rule["source_matchers"], *rule["target_matchers"]):
            label, _, value = matcher.replace("=~", "=").partition("=")
            assert label in {"severity", "threshold"} or set(value.strip('"').split("|")) <= ALERTS.keys()


def test_no_secret_stands_in_the_configuration() -> None:
    text = CONFIGURATION.read_text(encoding="utf-8")
    for secret in ("api_url:", "routing_key:", "smtp_auth_password:", "credentials:", "bearer_token:"):
        assert secret not in text


def labels(name: str, **others: str) -> dict[str, str]:
    return {"alertname": name, "severity": ALERTS[name]} | others


POLLED = {"job": "fal", "account": "a", "source": "models"}
SILENCED = (
    (labels("FalExporterDown", job="fal"), labels("FalPollFailing", **POLLED)),
    (labels("FalExporterDown", job="fal"), labels("FalUsageDataStale", **POLLED)),
    (labels("FalAccountLocked", account="a"), labels("FalCreditBalanceLow", account="a")),
    (labels("FalAccountLocked", account="a"), labels("FalCreditRunwayShort", account="a", severity="critical")),
    (labels("FalAccountLocked", account="a"), labels("FalProviderBudgetNear", account="a")),
    (labels("FalAccountLocked", account="a"), labels("FalPollFailing", **POLLED)),
    (labels("FalAccountLocked", account="a"), labels("FalUsageDataStale", **POLLED)),
    (labels("FalPollFailing", **POLLED), labels("FalUsageDataStale", **POLLED)),
    (
        labels("FalCreditRunwayShort", account="a", severity="critical"),
        labels("FalCreditRunwayShort", account="a", severity="warning"),
    ),
    (labels("FalCreditRunwayShort", account="a", severity="critical"), labels("FalCreditBalanceLow", account="a")),
    (labels("FalSpendAboveHourlyLimit", account="a"), labels("FalSpendUnusual", account="a", product="model_apis")),
    (labels("FalBudgetBurnFast", budget="b", account="a"), labels("FalBudgetBurnSlow", budget="b", account="a")),
    (labels("FalBudgetExceeded", budget="b"), labels("FalBudgetThresholdReached", budget="b", threshold="80%")),
    (labels("FalBudgetExceeded", budget="b"), labels("FalBudgetForecastExceeded", budget="b")),
    *(
        (
            labels("FalBudgetThresholdReached", budget="b", threshold=higher),
            labels("FalBudgetThresholdReached", budget="b", threshold=lower),
        )
        for higher, lower in (("80%", "50%"), ("100%", "50%"), ("100%", "80%"))
    ),
)
"""Alerts, and those that each silences."""


def test_what_follows_from_another_alert_is_kept_quiet_and_nothing_else(program: Program, tmp_path: Path) -> None:
    configuration = yaml.safe_load(CONFIGURATION.read_text(encoding="utf-8"))
    configuration["receivers"] = [{"name": made["name"]} for made in configuration["receivers"]]
    del configuration["templates"]
    # Each pair in a world of its own, so that no other silences it too.
    for rule in configuration["inhibit_rules"]:
        rule["equal"].append("world")
    (tmp_path / "alertmanager.yaml").write_text(yaml.safe_dump(configuration))
    is_silenced: dict[frozenset[tuple[str, str]], bool] = {}
    for number, (source, target) in enumerate(SILENCED):
        pair, alone = {"world": str(number)}, {"world": f"without {number}"}
        is_silenced[frozenset((source | pair).items())] = False
        is_silenced[frozenset((target | pair).items())] = True
        is_silenced[frozenset((target | alone).items())] = False
        of_another = {"account": "other", "budget": "other", "job": "other"}
        is_silenced[frozenset((target | of_another | pair).items())] = False
    with alertmanager_on(tmp_path / "alertmanager.yaml", tmp_path, program) as alertmanager:
        alertmanager.post(*({"labels": dict(told)} for told in is_silenced))
        # Alertmanager works alerts in one after the other, after it has answered: once the last one silences, all do.
        source, target = ({**told, "world": "last"} for told in SILENCED[0])
        alertmanager.post({"labels": target})
        alertmanager.post({"labels": source})
        is_silenced |= {frozenset(target.items()): True, frozenset(source.items()): False}
        wait_until(lambda: alertmanager.is_inhibited().get(frozenset(target.items())), "the last alert is silenced")
        assert alertmanager.is_inhibited() == is_silenced


@pytest.mark.parametrize(("years", "expected"), [("1971", {"first", "last", "always"}), ("1970:2500", {"always"})])
def test_finance_is_not_told_of_what_ends_of_months_always_bring(
    years: str, expected: set[str], program: Program, tmp_path: Path
) -> None:
    configuration = yaml.safe_load(CONFIGURATION.read_text(encoding="utf-8"))
    assert [interval["time_intervals"][0]["days_of_month"] for interval in configuration["time_intervals"]] == [
        ["-3:-1"],
        ["1:3"],
    ]
    for interval in configuration["time_intervals"]:
        interval["time_intervals"] = [{"years": [years]}]
    del configuration["templates"]
    with receiver() as received:
        configuration["receivers"] = [
            {"name": made["name"], "webhook_configs": [{"url": f"{received.url}/{made['name']}"}]}
            for made in configuration["receivers"]
        ]
        text = re.sub(r"(group_wait|group_interval): \w+", r"\1: 1s", yaml.safe_dump(configuration))
        (tmp_path / "alertmanager.yaml").write_text(text)
        with alertmanager_on(tmp_path / "alertmanager.yaml", tmp_path, program) as alertmanager:
            # The one that is never muted comes last, in a group of its own: what is before it has been told of by then.
            for name, budget in (("FalBudgetThresholdReached", "last"), ("FalLargeRestatement", "first")):
                alertmanager.post({"labels": labels(name, budget=budget)})
            alertmanager.post({"labels": labels("FalBudgetExceeded", budget="always")})
            wait_until(lambda: told_of(received) >= expected, "finance is told")
        assert told_of(received) == expected
        assert {post.path for post in received.posts} == {"/fal-email"}


def told_of(received: Receiver) -> set[object]:
    groups = [post.document["groupLabels"] for post in received.sent_to("/fal-email")]
    return {group["budget"] for group in groups if isinstance(group, dict)}


GLITCH = {
    "labels": labels("FalSpendAboveHourlyLimit", account="studio"),
    "annotations": {
        "summary": "The fal account studio has spent $40,500.00 in one hour.",
        "description": "The balance is -$1,234,567.89.",
        "runbook_url": "https://git.example.com/docs/alerts/FalSpendAboveHourlyLimit.md",
        "dashboard_url": "https://grafana.example.com/d/fal-spend?var-account=studio",
    },
    "startsAt": "2024-11-30T21:58:00Z",
}


def test_slack_pagerduty_and_the_webhook_are_told_of_money_as_people_read_it(program: Program, tmp_path: Path) -> None:
    for name in ("slack-url", "pagerduty-key", "webhook-token", "smtp-password"):
        (tmp_path / name).write_text(f"secret-{name}")
    with receiver() as received:
        (tmp_path / "slack-url").write_text(f"{received.url}/slack")
        text = CONFIGURATION.read_text(encoding="utf-8")
        text = text.replace("/etc/alertmanager/secrets", str(tmp_path)).replace("templates/", f"{FOLDER}/templates/")
        text = text.replace("https://hooks.example.com", received.url).replace("group_wait: 20s", "group_wait: 1s")
        text = text.replace("group_wait: 5s", "group_wait: 1s")
        text = text.replace("global:\n", f"global:\n  pagerduty_url: {received.url}/pagerduty\n")
        (tmp_path / "alertmanager.yaml").write_text(text)
        with alertmanager_on(tmp_path / "alertmanager.yaml", tmp_path, program) as alertmanager:
            alertmanager.post(GLITCH)
            paths = {"/slack", "/pagerduty", "/fal"}
            wait_until(lambda: {post.path for post in received.posts} >= paths, "all three are told")
    (slack,), (pagerduty,), (webhook,) = (received.sent_to(path) for path in ("/slack", "/pagerduty", "/fal"))
    attachments = slack.document["attachments"]
    assert isinstance(attachments, list)
    (attachment,) = attachments
    assert attachment["title"] == "[FIRING:1] fal account studio"
    assert attachment["text"] == (
        "CRITICAL: The fal account studio has spent $40,500.00 in one hour.\n"
        "The balance is -$1,234,567.89.\n"
        "Firing since 2024-11-30 21:58 UTC.\n"
        "FalSpendAboveHourlyLimit: https://git.example.com/docs/alerts/FalSpendAboveHourlyLimit.md\n"
        "Dashboard: https://grafana.example.com/d/fal-spend?var-account=studio\n"
    )
    assert attachment["color"] == "danger"
    assert pagerduty.document["routing_key"] == "secret-pagerduty-key"
    payload = pagerduty.document["payload"]
    assert isinstance(payload, dict)
    assert payload["summary"] == "The fal account studio has spent $40,500.00 in one hour."
    assert payload["severity"] == "critical"
    assert webhook.authorization == "Bearer secret-webhook-token"
    assert webhook.alerts("firing") == {"FalSpendAboveHourlyLimit"}


@pytest.mark.parametrize(
    ("template", "expected"),
    [
        ("fal.title", "[RESOLVED] fal budget video"),
        ("fal.text", "OVER: The budget video is exceeded, $1,000.50 spent."),
        ("fal.html", "<p>Over: The budget video is exceeded, $1,000.50 spent.</p>"),
        ("fal.slack.color", "good"),
    ],
)
def test_what_is_over_is_told_in_one_line(template: str, expected: str, program: Program, tmp_path: Path) -> None:
    over = {
        "status": "resolved",
        "groupLabels": {"budget": "video"},
        "alerts": [
            {
                "status": "resolved",
                "labels": {"alertname": "FalBudgetExceeded"},
                "annotations": {"summary": "The budget video is exceeded, $1,000.50 spent."},
            }
        ],
    }
    (tmp_path / "data.json").write_text(json.dumps(over))
    asked = ("--template.glob", f"{FOLDER}/templates/*.tmpl", "--template.data", tmp_path / "data.json")
    text = amtool(program, "template", "render", *asked, f'--template.text={{{{ template "{template}" . }}}}')
    assert text.strip() == expected
