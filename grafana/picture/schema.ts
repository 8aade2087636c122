// What grafana/dashboard.json has to be, in the types Grafana itself is written in. check.py sets tsc on it.

import type * as grafana from '@grafana/schema';
import type * as bargauge from '@grafana/schema/dist/esm/raw/composable/bargauge/panelcfg/x/BarGaugePanelCfg_types.gen';
import type * as stat from '@grafana/schema/dist/esm/raw/composable/stat/panelcfg/x/StatPanelCfg_types.gen';
import type * as table from '@grafana/schema/dist/esm/raw/composable/table/panelcfg/x/TablePanelCfg_types.gen';
import type * as timeseries from '@grafana/schema/dist/esm/raw/composable/timeseries/panelcfg/x/TimeSeriesPanelCfg_types.gen';

// A type as JSON has it: there an enum's member is its text.
type Json<T> = T extends string ? `${T}` : T extends object ? { [Key in keyof T]: Json<T[Key]> } : T;

// A type with some of its properties said more closely.
type With<T, Closer> = Omit<T, keyof Closer> & Closer;

// What the panel kinds leave open is closed here: the data source is Prometheus, overrides go by a field's name.
interface Query extends grafana.DataQuery {
  editorMode: 'code';
  exemplar: boolean;
  expr: string;
  format: 'time_series' | 'table' | 'heatmap';
  instant: boolean;
  legendFormat: string;
  range: boolean;
}

interface Annotation extends grafana.AnnotationQuery<grafana.DataQuery & { expr: string; interval: string }> {
  titleFormat?: string;
}

// `definition` is what the list of variables shows.
type Variable = grafana.VariableModel & { definition?: string };

type Properties<T, Prefix extends string = ''> = {
  [Key in keyof T & string]-?: { id: `${Prefix}${Key}`; value: T[Key] };
}[keyof T & string];

interface FieldConfig<Custom> {
  defaults: With<grafana.FieldConfig, { custom?: Custom }>;
  overrides: Array<{
    matcher: { id: 'byName'; options: string };
    properties: Array<Properties<Omit<grafana.FieldConfig, 'custom'>> | Properties<Custom, 'custom.'>>;
  }>;
}

type Panel<Kind extends string, Options, Custom = Record<string, never>> = With<
  grafana.Panel,
  { type: Kind; options: Options; fieldConfig: FieldConfig<Custom>; targets: Query[] }
>;

export type Dashboard = Json<
  With<
    grafana.Dashboard,
    {
      annotations: { list: Annotation[] };
      panels: Array<
        | grafana.RowPanel
        | Panel<'bargauge', bargauge.Options>
        | Panel<'stat', stat.Options>
        | Panel<'table', table.Options, table.FieldConfig>
        | Panel<'timeseries', timeseries.Options, timeseries.FieldConfig>
      >;
      templating: { list: Variable[] };
    }
  >
>;
