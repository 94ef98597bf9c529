// SPDX-License-Identifier: Apache-2.0
// Rules and dashboards for jsonnet, made from the files that are shipped; docs/mixin.md.
local promql = import 'promql.libsonnet';

// Not std.parseYaml of the file that is shipped: jsonnet 0.18 crashes on its long lines.
local groups = (import 'rules.json').groups;
local boards = {
  'tdx-headroom-fleet.json': import '../grafana/tdx-headroom-fleet.json',
  'tdx-headroom-host.json': import '../grafana/tdx-headroom-host.json',
};

// std.strReplace, which takes its time, only where something changes.
local replace(text, from, to) = if from == to then text else std.strReplace(text, from, to);

// The same, but a text that is not there is an error, not silence.
local replaced(text, from, to, what) =
  if std.length(std.findSubstr(from, text)) == 0 then error '%s: no %s in %s' % [what, from, text]
  else replace(text, from, to);

(import 'config.libsonnet') {
  local config = $._config,

  local expression(text) =
    promql.withSelector(replace(text, '[15m', '[' + config.gap), config.selector),

  // By alert: what stands in the expression of the shipped rule, and what it becomes.
  local changes = {
    TDXAgentStale: ['> 900', '> ' + config.staleSeconds],
    TDXAgentDown: ['.*tdx-headroom.*', config.agentJobs],
  },
  local changed(name, text) =
    if name in changes then replaced(text, changes[name][0], changes[name][1], name) else text,

  local recording(rule) = rule { expr: expression(rule.expr) },

  local alert(rule) = rule {
    expr: expression(changed(rule.alert, rule.expr)),
    [if 'for' in rule || rule.alert in config.hold then 'for']:
      std.get(config.hold, rule.alert, std.get(rule, 'for')),
    labels+: { severity: std.get(config.severity, rule.alert, rule.labels.severity) } + config.alertLabels,
    annotations+: {
      runbook_url: config.runbookUrl + '/' + rule.alert + '.md',
    },
  },

  local known = [rule.alert for group in groups for rule in group.rules if 'alert' in rule],
  local named = config.without + std.objectFields(config.hold) + std.objectFields(config.severity),
  assert std.length(std.setDiff(std.set(named), std.set(known))) == 0 :
         'no such alert: ' + std.join(' ', std.setDiff(std.set(named), std.set(known))),

  local only(key, make) = [
    group { rules: [make(rule) for rule in group.rules if key in rule && !std.member(config.without, rule[key])] }
    for group in groups
    if std.length([rule for rule in group.rules if key in rule]) > 0
  ],

  prometheusRules+:: { groups+: only('record', recording) },
  prometheusAlerts+:: { groups+: only('alert', alert) },

  local ofAgents(text) = replace(text, '.*tdx-headroom.*', config.agentJobs),
  local target(panel) = panel {
    [if 'targets' in panel then 'targets']:
      [query { expr: promql.withSelector(ofAgents(query.expr), config.selector) } for query in panel.targets],
    [if 'panels' in panel then 'panels']: [target(inner) for inner in panel.panels],
  },
  local variable(one) = one {
    [if one.type == 'query' then 'query']+: { query: promql.withSelector(one.query.query, config.selector) },
  },
  grafanaDashboards+:: {
    [name]: boards[name] {
      tags: config.dashboardTags,
      refresh: config.dashboardRefresh,
      panels: [target(panel) for panel in super.panels],
      templating: { list: [variable(one) for one in boards[name].templating.list] },
    }
    for name in std.objectFields(boards)
  },
}
