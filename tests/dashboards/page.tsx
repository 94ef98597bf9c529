// SPDX-License-Identifier: Apache-2.0
// Draws a dashboard with Grafana's own components and what a Prometheus answers; __main__.py opens it in Chromium.
// ?board=FILE&prometheus=URL&theme=light|dark&seconds=RANGE&expand=1&var-NAME=VALUE
import {
  FieldConfigOptionsRegistry, FieldType, ThemeContext, applyFieldOverrides, createDataFrame, createTheme, dateTime,
  getDisplayValueAlignmentFactors, getFieldDisplayValues, standardTransformers, standardTransformersRegistry,
  transformDataFrame,
} from '@grafana/data';
import { BarGauge, BigValue, GlobalStyles, PanelChrome, Table, TimeSeries, VizRepeater } from '@grafana/ui';
import { Component } from 'react';
import { createRoot } from 'react-dom/client';
import { lastValueFrom } from 'rxjs';

const asked = new URLSearchParams(location.search);
const theme = createTheme({ colors: { mode: asked.get('theme') } });
const WIDTH = 1920 - 32, GAP = 8, CELL = 30, COLUMN = (WIDTH - 23 * GAP) / 24;
const to = Date.now(), from = to - 1000 * Number(asked.get('seconds'));
const timeRange = { from: dateTime(from), to: dateTime(to), raw: { from: 'now-24h', to: 'now' } };
const left = (column) => column * (COLUMN + GAP), high = (rows) => rows * (CELL + GAP) - GAP;

// Some of its transformers have one id together.
standardTransformersRegistry.setInit(() => Object.values(Object.fromEntries(Object.values(standardTransformers)
  .map((one) => [one.id, { id: one.id, name: one.name, transformation: one }]))));

// Grafana has a row for each setting of a field; here every setting that the dashboard has is one.
const registryOf = (panel) => {
  const { defaults, overrides } = panel.fieldConfig;
  const ids = new Set([...Object.keys(defaults).filter((key) => key !== 'custom'),
    ...Object.keys(defaults.custom ?? {}).map((key) => `custom.${key}`),
    ...overrides.flatMap((rule) => rule.properties.map((property) => property.id))]);
  return new FieldConfigOptionsRegistry(() => [...ids].map((id) => ({
    id, name: id, path: id.replace(/^custom\./, ''), isCustom: id.startsWith('custom.'),
    process: (value) => value, shouldApply: () => true, settings: {},
  })));
};

// Variables of the dashboard, and ${__data.fields.NAME} of the row that a link is in.
const values = (board) => Object.fromEntries(board.templating.list.map((variable) => [variable.name,
  asked.get(`var-${variable.name}`) ?? variable.allValue ?? variable.current?.value ?? '']));
const replacer = (board) => (text, scoped) => text
  .replace(/\$\{__data\.fields\.(\w+)\}/g, (_, name) => {
    const { frame, rowIndex } = scoped.__dataContext.value;
    return encodeURI(frame.fields.find((field) => field.name === name).values[rowIndex]);
  })
  .replaceAll('$__rate_interval', '1m')
  .replace(/\$\{(\w+)\}|\$(\w+)/g, (_, a, b) => values(board)[a ?? b]);

// What Prometheus answers, as Grafana's data source makes frames of it (transformDFToTable() of @grafana/prometheus).
async function frames(target, replace, several) {
  const expr = replace(target.expr);
  const range = target.range ? { start: from / 1000, end: to / 1000, step: 1 } : { time: to / 1000 };
  const url = `${asked.get('prometheus')}/api/v1/query${target.range ? '_range' : ''}?`;
  const answer = await (await fetch(url + new URLSearchParams({ query: expr, ...range }))).json();
  if (answer.status !== 'success') throw new Error(answer.error);
  const series = answer.data.result.map(({ metric, value, values: list }) => ({ metric, points: list ?? [value] }));
  const number = (text) => (text === 'NaN' ? NaN : Number(text));
  const name = ({ __name__: metric = '', ...labels }) => target.legendFormat === '__auto'
    ? metric + (Object.keys(labels).length ? JSON.stringify(labels) : '')
    : target.legendFormat.replace(/\{\{(\w+)\}\}/g, (_, label) => labels[label] ?? '');
  if (target.format === 'table') {
    const labels = [...new Set(series.flatMap(({ metric }) => Object.keys(metric)))].sort();
    if (series.length === 0 && !several) return [createDataFrame({ refId: target.refId, fields: [] })];
    return [createDataFrame({ refId: target.refId, fields: [
      { name: 'Time', type: FieldType.time, values: series.map(({ points }) => points[0][0] * 1000) },
      ...labels.map((name) => ({ name, type: FieldType.string, values: series.map(({ metric }) => metric[name]) })),
      { name: several ? `Value #${target.refId}` : 'Value', type: FieldType.number,
        values: series.map(({ points }) => number(points[0][1])) },
    ] })];
  }
  return series.map(({ metric, points }) => createDataFrame({ refId: target.refId, fields: [
    { name: 'Time', type: FieldType.time, values: points.map(([time]) => time * 1000) },
    { name: 'Value', type: FieldType.number, labels: metric, config: { displayNameFromDS: name(metric) },
      values: points.map(([, text]) => number(text)) },
  ] }));
}

const Repeated = ({ panel, data, width, height, replace, draw }) => <VizRepeater
  getValues={() => getFieldDisplayValues({ fieldConfig: panel.fieldConfig, reduceOptions: panel.options.reduceOptions,
    replaceVariables: replace, theme, data, timeZone: 'utc' })}
  getAlignmentFactors={(list) => getDisplayValueAlignmentFactors(list)} renderValue={draw} source={data}
  width={width} height={height} orientation={panel.options.orientation ?? 'auto'} renderCounter={0} itemSpacing={10}
  autoGrid minVizHeight={16} minVizWidth={8} maxVizHeight={300} />;

const KINDS = {
  stat: ({ panel, ...rest }) => <Repeated panel={panel} {...rest}
    draw={({ value, width, height, alignmentFactors, count }) =>
      <BigValue value={value.display} count={count} width={width} height={height} theme={theme}
        colorMode={panel.options.colorMode} graphMode="none" justifyMode={panel.options.justifyMode}
        textMode={panel.options.textMode} text={panel.options.text} alignmentFactors={alignmentFactors} />} />,
  bargauge: ({ panel, ...rest }) => <Repeated panel={panel} {...rest}
    draw={({ value, width, height, alignmentFactors, orientation }) =>
      <BarGauge value={value.display} field={value.field} display={value.view?.getFieldDisplayProcessor(value.colIndex)}
        width={width} height={height} orientation={orientation} theme={theme} itemSpacing={10} lcdCellWidth={12}
        displayMode={panel.options.displayMode} showUnfilled={panel.options.showUnfilled}
        valueDisplayMode={panel.options.valueMode} namePlacement={panel.options.namePlacement}
        text={panel.options.text} alignmentFactors={alignmentFactors} />} />,
  table: ({ panel, data, width, height }) => data.length === 0 || data[0].fields.length === 0
    ? <p className="no-data">{panel.fieldConfig.defaults.noValue ?? 'No data'}</p>
    : <Table data={data[0]} width={width} height={height} cellHeight={panel.options.cellHeight} timeRange={timeRange}
      noHeader={!panel.options.showHeader} initialSortBy={panel.options.sortBy} fieldConfig={panel.fieldConfig} />,
  timeseries: ({ panel, data, width, height }) => data.length === 0 ? <p className="no-data">No data</p>
    : <TimeSeries frames={data} timeRange={timeRange} timeZone="utc" width={width} height={height}
      legend={panel.options.legend} options={panel.options} />,
};

class Guard extends Component {
  state = { error: null };
  static getDerivedStateFromError = (error) => ({ error });
  render() {
    return this.state.error ? <p className="error">{String(this.state.error)}</p> : this.props.children;
  }
}

const Panel = ({ panel, data, error, count, replace }) => {
  const { x, y, w, h } = panel.gridPos, Kind = KINDS[panel.type];
  const place = { position: 'absolute', left: left(x), top: y * (CELL + GAP) };
  if (panel.type === 'row') return <h3 style={{ ...place, ...theme.typography.h5, margin: 0, lineHeight: `${CELL}px` }}>
    {panel.collapsed ? '›' : '⌄'} {panel.title}
    {panel.collapsed && <small> ({panel.panels.length} panels)</small>}</h3>;
  return <div style={place} data-panel={panel.title} data-frames={count}>
    <PanelChrome title={replace(panel.title)} width={left(w) - GAP} height={high(h)}
      padding={panel.type === 'table' ? 'none' : 'md'}>
      {(width, height) => <Guard>{error ? <p className="error">{error}</p>
        : <Kind panel={panel} data={data} width={width} height={height} replace={replace} />}</Guard>}
    </PanelChrome></div>;
};

async function load(panel, replace) {
  try {
    const several = panel.targets.length > 1;
    const raw = (await Promise.all(panel.targets.map((target) => frames(target, replace, several)))).flat();
    const made = await lastValueFrom(transformDataFrame(panel.transformations ?? [], raw, { interpolate: replace }));
    const data = applyFieldOverrides({ data: made, fieldConfig: panel.fieldConfig, replaceVariables: replace, theme,
      timeZone: 'utc', fieldConfigRegistry: registryOf(panel) });
    return { panel, data, count: raw.filter((frame) => frame.length > 0).length };
  } catch (error) {
    return { panel, error: String(error) };
  }
}

// As Grafana does when it opens a dashboard: JSON has no -Infinity.
const endless = (key, value) =>
  key === 'steps' ? value.map((step) => ({ ...step, value: step.value ?? -Infinity })) : value;

async function main() {
  const board = JSON.parse(await (await fetch(asked.get('board'))).text(), endless);
  const replace = replacer(board);
  const flat = board.panels.flatMap((panel) => panel.type === 'row' && panel.collapsed && asked.get('expand')
    ? [{ ...panel, collapsed: false }, ...panel.panels] : [panel]);
  const loaded = await Promise.all(flat.map((panel) => panel.type === 'row' ? { panel } : load(panel, replace)));
  const end = Math.max(...flat.map(({ gridPos }) => gridPos.y + gridPos.h));
  const shown = board.templating.list.filter((one) => !one.hide && one.type !== 'datasource')
    .map((one) => `${one.label}: ${one.options?.find((o) => o.value === values(board)[one.name])?.text
      ?? (values(board)[one.name] === one.allValue ? 'All' : values(board)[one.name])}`);
  // Grafana measures texts to find their size.
  await Promise.all(['400 14px Inter', '500 14px Inter'].map((font) => document.fonts.load(font)));
  document.body.style.background = theme.colors.background.canvas;
  createRoot(document.getElementById('root')).render(<ThemeContext.Provider value={theme}>
    <GlobalStyles />
    <header><b>{board.title}</b>{shown.map((text) => <span key={text}>{text}</span>)}
      {board.links.map((link) => <a key={link.title} href={replace(link.url, {})}>{link.title}</a>)}</header>
    <main style={{ position: 'relative', width: WIDTH, height: high(end) }}>
      {loaded.map((one) => <Panel key={one.panel.id} {...one} replace={replace} />)}</main>
  </ThemeContext.Provider>);
  const named = (name) => [name, theme.visualization.getColorByName(name)];
  window.colours = { ...Object.fromEntries(['green', 'orange', 'red', 'blue'].map(named)),
    text: theme.colors.text.primary, link: theme.colors.text.link, canvas: theme.colors.background.primary };
  const frame = () => new Promise(requestAnimationFrame);
  const expected = loaded.filter(({ panel }) => panel.type !== 'row').length;
  while (document.querySelectorAll('[data-panel] .error, [data-panel] [data-testid$=content] > *').length < expected)
    await frame();
  await frame();  // uPlot draws in the one after that in which it is made
  window.drawn = true;
}
main().catch((error) => { window.drawn = String(error.stack); });
