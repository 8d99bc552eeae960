"""Generator of alerts.yaml and prometheusrule.yaml; run it after a change to a rule file or to source/.

source/alerts.yaml is written in the templates of Prometheus with a few functions more, which are replaced here by what
Prometheus, Mimir, Thanos and vmalert all know:

    | usd                  an amount as people write it: -$18,249.89
    | usd_unsigned         the same without its sign, where words say it
    | price                the price of a unit, with as many digits as it has: $0.00125
    | utc                  a timestamp: 2026-11-30 21:58 UTC
    | duration             a duration as people say it, in its two largest units: 2 days 20 hours
    | product_name         a product as people call it: Model APIs
    | bill                 a bill as people call it: fal's FOCUS invoice
    {{ since a b }}        since when the alert is active, which its labels a and b identify; nothing at its first sight
    {{ of_account }}       the account of a budget, where it has one
    {{ spent_of_limit }}   what is spent of a budget, and its limit
    {{ credit_floor }}     the balance at which fal locks an account
    {{ lock_advice }}      what to do about a lock, by the label reason
    {{ mostly account }}   the model or app that this hour and the last were mostly spent on
    dashboard: UID 6h a    runbook_url and dashboard_url, the latter with the last 6 hours and the variable a filled in
    current(metric)        without exporters whose figures are old while others watch each of their accounts
    growth(counter[1d])    by how much a counter of the exporter's process has grown

Give --runbooks and --dashboards to have the links lead to your own repository and Grafana.
"""  # noqa: INP001  a script, not a module

import argparse
import re
from pathlib import Path
from textwrap import indent

FOLDER = Path(__file__).parent

RUNBOOKS = "https://git.example.com/fal-exporter/docs/alerts"
DASHBOARDS = "https://grafana.example.com"

_SECONDS = {"h": 3600, "d": 86400}
_CENTS = r'printf "%.2f" | reReplaceAll `(\d)(\d{3}\.)` "$1,$2" | reReplaceAll `(\d)(\d{3},)` "$1,$2" '
_FUNCTIONS = {
    "usd": _CENTS + "| reReplaceAll `^-?` `$0$$`",
    "usd_unsigned": _CENTS + "| reReplaceAll `^-?` `$$`",
    "price": r'printf "%.9f" | reReplaceAll `(\.\d\d)(\d*?)0*$` "$1$2" | reReplaceAll `^-?` `$0$$`',
    "utc": r"humanizeTimestamp | reReplaceAll `:\d\d(\.\d+)? \+0000 UTC$` ` UTC`",
}
_DURATION = (
    (r"^(-?\d+d \d+h) .*", "$1"),
    (r"^(-?\d+h \d+m) .*", "$1"),
    (r"^(-?\d+m) .*", "$1"),
    *((rf"(\d){unit[0]}\b", f"$1 {unit}s") for unit in ("day", "hour", "minute", "second")),
    (r"\b1 (\w+)s\b", "1 $1"),
    (r"^(.+) 0 \w+$", "$1"),
)
_FUNCTIONS["duration"] = "humanizeDuration " + " ".join(
    f'| reReplaceAll `{pattern}` "{replacement}"' for pattern, replacement in _DURATION
)
_NAMES = {
    "product_name": {"model_apis": "Model APIs", "serverless": "Serverless", "compute": "Compute machines"},
    "bill": {
        "invoice": "the invoice",
        "focus_invoice": "fal's FOCUS invoice",
        "focus_estimate": "fal's FOCUS estimate",
    },
}
_FUNCTIONS |= {
    function: " | ".join(f"reReplaceAll `^{value}$` `{name}`" for value, name in names.items())
    for function, names in _NAMES.items()
}
_BLOCKS = {
    "of_account": "{{ with .Labels.account }} of the fal account {{ . }}{{ end }}",
    "spent_of_limit": (
        "{{ with printf `max(fal:budget_spend_usd{account=%q,budget=%q})` .Labels.account .Labels.budget | query }}"
        "Spent so far: {{ . | first | value | usd }}. {{ end }}"
        "{{ with printf `max(fal:budget_limit_usd{account=%q,budget=%q})` .Labels.account .Labels.budget | query }}"
        "The limit is {{ . | first | value | usd }}. {{ end }}"
    ),
    "mostly account": (
        "{{ range printf `topk(1, max by (product, model, app) ("
        "sum without (team, environment, gpu_class, api_key, member, surge) ("
        "fal_spend_current_hour_usd{account=%q} + fal_spend_last_hour_usd{account=%q})))` "
        ".Labels.account .Labels.account | query }}Most of this hour and the last went to "
        "{{ or .Labels.model .Labels.app .Labels.product | product_name }}: {{ . | value | usd }}. {{ end }}"
    ),
}
_TOP_UP = "top up the balance at fal.ai/dashboard/billing; if the account stays locked, contact fal's support"
LOCK_ADVICE = {
    "exhausted_balance": _TOP_UP,
    "top_up": _TOP_UP,
    "admin_lock": "contact fal's support, which locked the account manually; a top-up does not unlock it",
    "budget_exceeded": "raise the account's monthly budget in fal's dashboard or wait for the next month; "
    "a top-up does not unlock it",
    "payment_method": "add a payment method at fal.ai/dashboard/billing",
    "archived": "ask fal's support to restore the account, or use the key of another one",
}
OTHER_ADVICE = "ask fal's support for the reason, and compare the balance with the one at which fal locks the account"
_BLOCKS["credit_floor"] = (
    "{{ with printf `max(fal_credit_floor_usd{account=%q}) != 0` .Labels.account | query }}"
    "{{ . | first | value | usd }}{{ else }}$0{{ end }}"
)
_BLOCKS["lock_advice"] = (
    "{{ "
    + "{{ else ".join(f"if eq .Labels.reason `{reason}` }}}}{advice}" for reason, advice in LOCK_ADVICE.items())
    + f"{{{{ else }}}}{OTHER_ADVICE}{{{{ end }}}}"
)
_GROWTH = r"max_over_time(\1) - min_over_time(\1) and resets(\1) == 0 or increase(\1) and resets(\1) > 0"
_OBJECT = """\
apiVersion: monitoring.coreos.com/v1
kind: PrometheusRule
metadata:
  name: fal-{name}
  labels:
    app.kubernetes.io/name: fal-exporter
spec:
"""


def alerts(runbooks: str = RUNBOOKS, dashboards: str = DASHBOARDS) -> str:
    """Return the text of alerts.yaml, its links below these addresses."""
    source = (FOLDER / "source" / "alerts.yaml").read_text(encoding="utf-8")
    head, *rules = re.split(r"(?m)^(?=      - alert: )", source)
    made = "".join(_expanded(rule, runbooks.rstrip("/"), dashboards.rstrip("/")) for rule in rules)
    return f"# Made by generate.py from source/alerts.yaml; change that.\n#\n{head}{made}"


def prometheus_rules(alerts_text: str) -> str:
    """Return one PrometheusRule for each rule file with its text, so that the thresholds can be replaced alone."""
    texts = {name: (FOLDER / f"{name}.yaml").read_text(encoding="utf-8") for name in ("thresholds", "recording")}
    objects = [
        _OBJECT.format(name=name) + indent(text, "  ") for name, text in (texts | {"alerts": alerts_text}).items()
    ]
    return "# Made by generate.py from the rule files; change those.\n---\n" + "---\n".join(objects)


def _expanded(rule: str, runbooks: str, dashboards: str) -> str:
    name = _only(r"- alert: (\w+)", rule)
    severity = _only(r"severity: (\w+)", rule)

    def since(match: re.Match[str]) -> str:
        labels = match[1].split()
        selected = "".join(f",{label}=%q" for label in labels)
        query = f'min(ALERTS_FOR_STATE{{alertname="{name}",severity="{severity}"{selected}}})'
        asked = f"printf `{query}` {' '.join(f'.Labels.{label}' for label in labels)} |" if labels else f"`{query}` |"
        return f"{{{{ with {asked} query }}}}Since {{{{ . | first | value | utc }}}}. {{{{ end }}}}"

    def links(match: re.Match[str]) -> str:
        board, span, *labels = match[2].split()
        start = f"time() - {int(span[:-1]) * _SECONDS[span[-1]]}"
        times = "&".join(
            f'{name}={{{{ with query "{query}" }}}}{{{{ . | first | value | printf "%.0f" }}}}000{{{{ end }}}}'
            for name, query in (("from", start), ("to", "time()"))
        )
        chosen = "".join(
            f"{{{{ with .Labels.{label} }}}}&var-{label}={{{{ . | urlquery }}}}{{{{ end }}}}" for label in labels
        )
        return (
            f"{match[1]}runbook_url: {runbooks}/{name}.md\n"
            f"{match[1]}dashboard_url: >-\n{match[1]}  {dashboards}/d/{board}?{times}{chosen}\n"
        )

    rule = re.sub(r"\bcurrent\(([^()]+)\)", r"(\1 unless on (job, instance) fal:exporter_outdated)", rule)
    rule = re.sub(r"\bgrowth\(([^()]+)\)", _GROWTH, rule)
    rule = re.sub(r"\{\{ since((?: \w+)*) \}\}", since, rule)
    for block, text in _BLOCKS.items():
        rule = rule.replace(f"{{{{ {block} }}}}", text)
    for function, text in _FUNCTIONS.items():
        rule = re.sub(rf"\| {function}\b(?= )", lambda _, text=text: f"| {text}", rule)
    return re.sub(r"( +)dashboard: (.+)\n", links, rule)


def _only(pattern: str, text: str) -> str:
    (found,) = re.findall(pattern, text)
    return str(found)


def main() -> None:
    """Write the files that are made."""
    parser = argparse.ArgumentParser(description="Make alerts.yaml and prometheusrule.yaml.")
    parser.add_argument(
        "--runbooks", default=RUNBOOKS, help="address of the folder docs/alerts in your repository [%(default)s]"
    )
    parser.add_argument("--dashboards", default=DASHBOARDS, help="address of your Grafana [%(default)s]")
    given = parser.parse_args()
    text = alerts(given.runbooks, given.dashboards)
    (FOLDER / "alerts.yaml").write_text(text, encoding="utf-8")
    (FOLDER / "prometheusrule.yaml").write_text(prometheus_rules(text), encoding="utf-8")


if __name__ == "__main__":
    main()
