// The rules and dashboards of fal-exporter as a mixin. It reads the files beside it and those of grafana/dashboards, so it
// is never out of date. With jsonnet-bundler, vendor the whole repository:
//
//   local fal = (import 'fal-exporter/deploy/prometheus/mixin.libsonnet') + {
//     _config+:: { dashboardBase: 'https://grafana.example.org', thresholds: { spend_hourly_usd: 2000 } },
//   };
//   std.manifestYamlDoc(fal.prometheusAlerts)
{
  _config:: {
    // Addresses of the folder docs/alerts in your repository, and of your Grafana.
    runbookBase: 'https://git.example.com/fal-exporter/docs/alerts',
    dashboardBase: 'https://grafana.example.com',
    // Thresholds by their names in thresholds.yaml, for all accounts and for single ones: { studio: { ... } }.
    thresholds: {},
    accountThresholds: {},
    // On every alert.
    alertLabels: {},
    // Names of alerts to leave out.
    disabled: [],
  },

  local config = self._config,
  local prefix = 'fal:threshold_',
  local shipped = {
    runbookBase: 'https://git.example.com/fal-exporter/docs/alerts',
    dashboardBase: 'https://grafana.example.com',
  },
  local thresholdGroups = std.parseYaml(importstr 'thresholds.yaml').groups,
  local threshold(name, number) = { record: prefix + name, expr: 'vector(%s)' % std.toString(number) },
  local known = [rule.record for group in thresholdGroups for rule in group.rules],
  local unknown = [
    name
    for thresholds in [config.thresholds] + std.objectValues(config.accountThresholds)
    for name in std.objectFields(thresholds)
    if !std.member(known, prefix + name)
  ],

  prometheusRules+:: {
    groups+: if unknown != [] then error 'thresholds.yaml has no threshold ' + unknown[0] else [
      group {
        rules: [
          rule + std.get(
            { [prefix + name]: threshold(name, config.thresholds[name]) for name in std.objectFields(config.thresholds) },
            rule.record,
            {}
          )
          for rule in group.rules
        ] + [
          threshold(name, config.accountThresholds[account][name]) + { labels: { account: account } }
          for account in std.objectFields(config.accountThresholds)
          for name in std.objectFields(config.accountThresholds[account])
        ],
      }
      for group in thresholdGroups
    ] + std.parseYaml(importstr 'recording.yaml').groups,
  },

  prometheusAlerts+:: {
    groups+: [
      group {
        rules: [
          rule {
            labels+: config.alertLabels,
            annotations+: {
              runbook_url: std.strReplace(super.runbook_url, shipped.runbookBase, config.runbookBase),
              dashboard_url: std.strReplace(super.dashboard_url, shipped.dashboardBase, config.dashboardBase),
            },
          }
          for rule in group.rules
          if !std.member(config.disabled, rule.alert)
        ],
      }
      for group in std.parseYaml(importstr 'alerts.yaml').groups
    ],
  },

  grafanaDashboards+:: {
    'fal-exporter-health.json': import '../../grafana/dashboards/fal-exporter-health.json',
    'fal-gpu-time.json': import '../../grafana/dashboards/fal-gpu-time.json',
    'fal-invoices.json': import '../../grafana/dashboards/fal-invoices.json',
    'fal-month.json': import '../../grafana/dashboards/fal-month.json',
    'fal-models-and-prices.json': import '../../grafana/dashboards/fal-models-and-prices.json',
    'fal-requests.json': import '../../grafana/dashboards/fal-requests.json',
    'fal-spend.json': import '../../grafana/dashboards/fal-spend.json',
  },
}
