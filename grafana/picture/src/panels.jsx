// The four kinds of panel the dashboard uses, each as Grafana's own panel of that kind puts the components together.

import { FieldType, getDisplayValueAlignmentFactors, getFieldDisplayValues, VizOrientation } from '@grafana/data';
import { BarGauge, BigValue, TimeSeries, VizRepeater } from '@grafana/ui';
import { TableNG } from '@grafana/ui/unstable';
import React from 'react';

import { drawRegions } from './annotations.js';
import { TIME_ZONE } from './data.js';

export const KINDS = { timeseries: Lines, stat: Stat, bargauge: Bars, table: Table };

export function NoData({ panel, height }) {
  const style = { height, display: 'flex', alignItems: 'center', justifyContent: 'center' };
  return <div style={style}>{panel.fieldConfig.defaults.noValue || 'No data'}</div>;
}

function Lines({ panel, frames, range, regions, width, height }) {
  return (
    <TimeSeries
      frames={frames}
      structureRev={1}
      width={width}
      height={height}
      timeRange={range}
      timeZone={TIME_ZONE}
      legend={panel.options.legend}
      options={panel.options}
    >
      {(builder) => {
        builder.addHook('draw', drawRegions(regions));
        return null;
      }}
    </TimeSeries>
  );
}

function Stat({ panel, frames, theme, width, height }) {
  const { options } = panel;
  const [value] = fieldDisplays(panel, frames, theme, { sparkline: true });
  return (
    <BigValue
      theme={theme}
      width={width}
      height={height}
      value={{ ...value.display, title: undefined }}
      sparkline={value.sparkline}
      colorMode={options.colorMode}
      graphMode={options.graphMode}
      justifyMode={options.justifyMode}
      textMode={options.textMode}
    />
  );
}

function Bars({ panel, frames, theme, width, height }) {
  const { options } = panel;
  return (
    <VizRepeater
      source={frames}
      getValues={() => sharedMaximum(fieldDisplays(panel, frames, theme))}
      getAlignmentFactors={getDisplayValueAlignmentFactors}
      width={width}
      height={height}
      renderCounter={0}
      minVizHeight={options.minVizHeight}
      minVizWidth={options.minVizWidth}
      maxVizHeight={options.maxVizHeight}
      itemSpacing={6}
      orientation={VizOrientation.Horizontal}
      renderValue={({ value, width, height, alignmentFactors }) => (
        <BarGauge
          theme={theme}
          value={value.display}
          field={value.field}
          display={value.view?.getFieldDisplayProcessor(value.colIndex)}
          width={width}
          height={height}
          orientation={VizOrientation.Horizontal}
          itemSpacing={6}
          displayMode={options.displayMode}
          valueDisplayMode={options.valueMode}
          namePlacement={options.namePlacement}
          showUnfilled={options.showUnfilled}
          alignmentFactors={alignmentFactors}
          text={options.text}
        />
      )}
    />
  );
}

function Table({ panel, frames, range, width, height }) {
  return (
    <TableNG
      data={frames[0]}
      width={width}
      height={height}
      sortBy={panel.options.sortBy}
      cellHeight={panel.options.cellHeight}
      noHeader={!panel.options.showHeader}
      timeRange={range}
      structureRev={1}
      fieldConfig={panel.fieldConfig}
      enableVirtualization={false}
      transparent
    />
  );
}

function fieldDisplays(panel, frames, theme, { sparkline = false } = {}) {
  return getFieldDisplayValues({
    data: frames,
    fieldConfig: panel.fieldConfig,
    reduceOptions: panel.options.reduceOptions,
    replaceVariables: (text) => text,
    sparkline,
    theme,
    timeZone: TIME_ZONE,
  });
}

// Bars of one panel are drawn against the longest of them.
function sharedMaximum(values) {
  const max = Math.max(1, ...values.map(({ display }) => (Number.isFinite(display.numeric) ? display.numeric : 0)));
  return values.map((value) => ({ ...value, field: { ...value.field, min: 0, max } }));
}

export function isEmpty(frames) {
  const numbers = frames.flatMap(({ fields }) => fields.filter(({ type }) => type === FieldType.number));
  return !numbers.some(({ values }) => values.some((value) => value !== null && value !== undefined));
}
