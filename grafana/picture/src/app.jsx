// The dashboard as a page: Grafana's grid, theme and panel frames around the panels, and a line that says what it is.

import { createTheme, ThemeContext } from '@grafana/data';
import { GlobalStyles, Icon, PanelChrome, PortalContainer } from '@grafana/ui';
import React from 'react';
import { createRoot } from 'react-dom/client';

import { regionsOf } from './annotations.js';
import { framesOf, timeRange } from './data.js';
import { isEmpty, KINDS, NoData } from './panels.jsx';

// Grafana's grid: 24 columns, rows of 30 pixels, 8 pixels between.
const COLUMNS = 24;
const CELL = 30;
const GAP = 8;
const WIDTH = 1600;
const HEAD = 96;

const theme = createTheme({ colors: { mode: 'dark' } });

async function main() {
  const dashboard = await (await fetch('dashboard.json')).json();
  const frames = Object.fromEntries(
    await Promise.all(
      dashboard.panels.filter(({ type }) => type !== 'row').map(async (panel) => [panel.id, await framesOf(panel, theme)])
    )
  );
  const root = createRoot(document.getElementById('root'));
  root.render(<Frame />);
  await fonts();
  root.render(<Frame><Dashboard dashboard={dashboard} frames={frames} /></Frame>);
}

// Charts are drawn on a canvas, which does not wait for fonts.
async function fonts() {
  await new Promise((resolve) => setTimeout(resolve, 100));
  await Promise.all(['400', '500'].map((weight) => document.fonts.load(`${weight} 12px Inter`)));
}

function Frame({ children }) {
  return (
    <ThemeContext.Provider value={theme}>
      <GlobalStyles />
      <div style={{ background: theme.colors.background.canvas, width: WIDTH, ...theme.typography.body }}>{children}</div>
      <PortalContainer />
    </ThemeContext.Provider>
  );
}

function Dashboard({ dashboard, frames }) {
  const range = timeRange(dashboard.range);
  const regions = regionsOf(dashboard.annotations.list.filter(({ target }) => target), theme);
  const lowest = Math.max(...dashboard.panels.map(({ gridPos }) => gridPos.y + gridPos.h));
  return (
    <div style={{ position: 'relative', height: HEAD + lowest * (CELL + GAP) + GAP }}>
      <Head dashboard={dashboard} />
      {dashboard.panels.map((panel) =>
        panel.type === 'row' ? (
          <RowTitle key={panel.id} panel={panel} />
        ) : (
          <Panel key={panel.id} panel={panel} frames={frames[panel.id]} range={range} regions={regions} />
        )
      )}
    </div>
  );
}

function Head({ dashboard }) {
  const { text, border } = theme.colors;
  return (
    <div style={{ padding: `12px ${GAP}px 0`, height: HEAD, boxSizing: 'border-box' }}>
      <div style={{ display: 'flex', justifyContent: 'space-between', alignItems: 'baseline' }}>
        <span style={{ ...theme.typography.h3, margin: 0, color: text.primary }}>{dashboard.title}</span>
        <span style={{ color: text.secondary }}>{dashboard.caption}</span>
      </div>
      <div style={{ display: 'flex', gap: GAP, marginTop: 10 }}>
        {dashboard.templating.list.map(({ name, label }) => (
          <span key={name} style={{ display: 'flex', border: `1px solid ${border.weak}`, borderRadius: 6, height: 32 }}>
            <span style={{ ...CONTROL, color: text.primary, background: theme.colors.background.secondary }}>{label}</span>
            <span style={{ ...CONTROL, color: text.secondary }}>{name === 'datasource' ? 'Prometheus' : 'All'}</span>
          </span>
        ))}
        <span style={{ marginLeft: 'auto', display: 'flex', gap: 16, alignItems: 'center', color: text.secondary }}>
          {dashboard.links.map(({ title }) => (
            <span key={title} style={{ display: 'flex', gap: 4, alignItems: 'center' }}>
              <Icon name="file-alt" /> {title}
            </span>
          ))}
          <span style={{ display: 'flex', gap: 4, alignItems: 'center', color: text.primary }}>
            <Icon name="clock-nine" /> Last {dashboard.minutes} minutes
          </span>
        </span>
      </div>
    </div>
  );
}

const CONTROL = { padding: '0 10px', display: 'flex', alignItems: 'center', fontSize: 12, borderRadius: 6 };

function RowTitle({ panel }) {
  const { left, top } = place(panel.gridPos);
  const style = { position: 'absolute', left, top, height: CELL, display: 'flex', alignItems: 'center', gap: 6 };
  return (
    <div style={{ ...style, ...theme.typography.h5, color: theme.colors.text.primary }}>
      <Icon name="angle-down" /> {panel.title}
    </div>
  );
}

function Panel({ panel, frames, range, regions }) {
  const { left, top, width, height } = place(panel.gridPos);
  const Kind = KINDS[panel.type];
  const empty = isEmpty(frames);
  return (
    <div style={{ position: 'absolute', left, top, width, height }}>
      <PanelChrome
        title={panel.title}
        description={panel.description}
        width={width}
        height={height}
        padding={panel.type === 'table' && !empty ? 'none' : 'md'}
      >
        {(innerWidth, innerHeight) =>
          empty ? (
            <NoData panel={panel} height={innerHeight} />
          ) : (
            <Kind {...{ panel, frames, range, regions, theme, width: innerWidth, height: innerHeight }} />
          )
        }
      </PanelChrome>
    </div>
  );
}

function place({ x, y, w, h }) {
  const column = (WIDTH - GAP) / COLUMNS;
  return {
    left: GAP + x * column,
    top: HEAD + y * (CELL + GAP),
    width: w * column - GAP,
    height: h * (CELL + GAP) - GAP,
  };
}

main();
