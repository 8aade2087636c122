// From Prometheus' answers to what Grafana's components draw: frames, transformations, field settings.

import {
  Registry,
  applyFieldOverrides,
  cacheFieldDisplayNames,
  createDataFrame,
  dateTime,
  FieldType,
  standardTransformers,
  standardTransformersRegistry,
  transformDataFrame,
} from '@grafana/data';
import { lastValueFrom } from 'rxjs';

export const TIME_ZONE = 'utc';

standardTransformersRegistry.setInit(() =>
  [standardTransformers.mergeTransformer, standardTransformers.organizeFieldsTransformer].map((transformation) => ({
    id: transformation.id,
    name: transformation.name,
    transformation: async () => transformation,
  }))
);

export function timeRange([from, to]) {
  const range = { from: dateTime(from * 1000), to: dateTime(to * 1000) };
  return { ...range, raw: range };
}

// The frames of a panel, ready to be drawn: each target's answer in the format the target asks for.
export async function framesOf(panel, theme) {
  const raw = panel.targets.flatMap((target) => FORMATS[target.format](target, panel));
  const context = { interpolate: (text) => text };
  const data = panel.transformations ? await lastValueFrom(transformDataFrame(panel.transformations, raw, context)) : raw;
  const frames = applyFieldOverrides({
    data,
    fieldConfig: panel.fieldConfig,
    fieldConfigRegistry: registryFor(panel.fieldConfig),
    replaceVariables: (text) => text,
    theme,
    timeZone: TIME_ZONE,
  });
  cacheFieldDisplayNames(frames);
  return frames;
}

const FORMATS = {
  time_series: (target) =>
    target.answer.map(({ metric, values }) =>
      createDataFrame({
        refId: target.refId,
        fields: [
          { name: 'Time', type: FieldType.time, config: { interval: target.step * 1000 }, values: times(values) },
          {
            name: 'Value',
            type: FieldType.number,
            labels: metric,
            config: { displayNameFromDS: legend(target.legendFormat, metric) },
            values: values.map(([, value]) => number(value)),
          },
        ],
      })
    ),

  // Cumulative buckets become single ones, lowest first: one field a bucket.
  heatmap: (target) => {
    const buckets = target.answer
      .map(({ metric, values }) => ({ le: metric.le, count: number(values.at(-1)[1]) ?? 0 }))
      .sort((a, b) => parseLe(a.le) - parseLe(b.le));
    if (!buckets.length) {
      return [];
    }
    const fields = buckets.map(({ le, count }, i) => ({
      name: le,
      type: FieldType.number,
      config: { displayNameFromDS: le },
      values: [Math.max(0, count - (i ? buckets[i - 1].count : 0))],
    }));
    return [createDataFrame({ refId: target.refId, fields })];
  },

  table: (target, panel) => {
    const labels = [...new Set(target.answer.flatMap(({ metric }) => Object.keys(metric)))].sort();
    const latest = target.answer.map(({ values }) => values.at(-1));
    const fields = [
      { name: 'Time', type: FieldType.time, values: times(latest) },
      ...labels.map((label) => ({
        name: label,
        type: FieldType.string,
        values: target.answer.map(({ metric }) => metric[label]),
      })),
      {
        name: panel.targets.length > 1 ? `Value #${target.refId}` : 'Value',
        type: FieldType.number,
        values: latest.map(([, value]) => number(value)),
      },
    ];
    return [createDataFrame({ refId: target.refId, fields })];
  },
};

const times = (values) => values.map(([time]) => time * 1000);
const parseLe = (le) => (le === '+Inf' ? Infinity : Number(le));

function number(text) {
  const value = Number(text);
  return Number.isFinite(value) ? value : null;
}

function legend(format, metric) {
  return format === '__auto' ? 'Value' : format.replace(/{{(\w+)}}/g, (_, label) => metric[label] ?? '');
}

// Grafana looks settings up in a registry that its panel plugins fill; ours takes every setting the panel has.
function registryFor({ defaults, overrides }) {
  const ids = new Set([
    ...Object.keys(defaults).filter((key) => key !== 'custom'),
    ...Object.keys(defaults.custom ?? {}).map((key) => `custom.${key}`),
    ...overrides.flatMap(({ properties }) => properties.map(({ id }) => id)),
  ]);
  return new Registry(() =>
    [...ids].map((id) => ({
      id,
      name: id,
      path: id.replace(/^custom\./, ''),
      isCustom: id.startsWith('custom.'),
      process: (value) => value,
      shouldApply: () => true,
    }))
  );
}
