// SPDX-License-Identifier: Apache-2.0
// What may be changed; with these values the mixin gives exactly what is in packaging/prometheus and packaging/grafana.
{
  _config+:: {
    // Label matchers for every metric of the agent and for `up`, such as 'cluster="lab",env!="test"'.
    selector: '',
    // Jobs that TDXAgentDown is about.
    agentJobs: '.*tdx-headroom.*',
    // How long a value counts after the last scrape of its host.
    gap: '15m',
    // TDXAgentStale: seconds since the last good assessment.
    staleSeconds: 900,
    // By alert: another `for`, another severity.
    hold: {},
    severity: {},
    // Alerts that are left out.
    without: [],
    // Labels that every alert gets.
    alertLabels: {},
    // Where the pages of docs/runbooks are, without the page's name.
    runbookUrl: 'https://tdx-headroom.example/docs/runbooks',
    dashboardTags: ['tdx'],
    dashboardRefresh: '1m',
  },
}
