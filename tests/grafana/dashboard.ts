// SPDX-License-Identifier: Apache-2.0
// What a dashboard of this project may hold, said in the types of @grafana/schema. A JSON schema is made from it.
import type { Dashboard, DataQuery, DataSourceRef, FieldConfigSource, Panel, RowPanel } from '@grafana/schema';
import type * as bargauge from '@grafana/schema/dist/esm/raw/composable/bargauge/panelcfg/x/BarGaugePanelCfg_types.gen';
import type * as stat from '@grafana/schema/dist/esm/raw/composable/stat/panelcfg/x/StatPanelCfg_types.gen';
import type * as table from '@grafana/schema/dist/esm/raw/composable/table/panelcfg/x/TablePanelCfg_types.gen';
import type * as timeseries from '@grafana/schema/dist/esm/raw/composable/timeseries/panelcfg/x/TimeSeriesPanelCfg_types.gen';

// The package has no type for queries to Prometheus; these are the keys that Grafana's own editor writes.
interface PrometheusQuery extends DataQuery {
  expr: string;
  format: 'time_series' | 'table';
  instant: boolean;
  range: boolean;
  legendFormat: string;
  editorMode: 'code';
}

interface Of<Kind extends string, Options, Custom = Record<string, never>>
  extends Omit<Panel<Record<string, unknown>, Custom>, 'type' | 'options' | 'targets' | 'fieldConfig'> {
  type: Kind;
  options: Partial<Options>;
  datasource: DataSourceRef;
  targets: PrometheusQuery[];
  fieldConfig: FieldConfigSource<Custom>;
}

type AnyPanel =
  | Of<'bargauge', bargauge.Options>
  | Of<'stat', stat.Options>
  | Of<'table', table.Options, Partial<table.FieldConfig>>
  | Of<'timeseries', timeseries.Options, Partial<timeseries.FieldConfig>>;

interface Row extends Omit<RowPanel, 'panels'> {
  panels: AnyPanel[];
}

export interface Shipped extends Omit<Dashboard, 'panels'> {
  panels: (AnyPanel | Row)[];
}
