// Firing alerts and restarts over a chart, as Grafana marks them: dashed lines, and a bar below for how long.

const BAR_PIXELS = 3;

// [{color, from, to}] in milliseconds, of the dashboard's annotation queries; samples without a gap are one region.
export function regionsOf(annotations, theme) {
  return annotations.flatMap(({ iconColor, answer, step }) => {
    const color = theme.visualization.getColorByName(iconColor);
    return answer.flatMap(({ values }) => unbroken(values, 2 * step).map(([from, to]) => ({ color, from, to })));
  });
}

function unbroken(values, gap) {
  const regions = [];
  for (const [time] of values) {
    const last = regions.at(-1);
    if (last && time - last[1] <= gap) {
      last[1] = time;
    } else {
      regions.push([time, time]);
    }
  }
  return regions.map(([from, to]) => [from * 1000, to * 1000]);
}

export function drawRegions(regions) {
  return (plot) => {
    const { ctx, bbox } = plot;
    const bar = BAR_PIXELS * devicePixelRatio;
    ctx.save();
    for (const { color, from, to } of regions) {
      const [left, right] = [from, to].map((time) => Math.round(plot.valToPos(time, 'x', true)));
      ctx.strokeStyle = ctx.fillStyle = color;
      ctx.lineWidth = devicePixelRatio;
      ctx.setLineDash([4, 4]);
      for (const x of new Set([left, right])) {
        ctx.beginPath();
        ctx.moveTo(x, bbox.top);
        ctx.lineTo(x, bbox.top + bbox.height);
        ctx.stroke();
      }
      ctx.fillRect(left - bar, bbox.top + bbox.height, right - left + 2 * bar, bar);
      ctx.globalAlpha = 0.08;
      ctx.fillRect(left, bbox.top, right - left, bbox.height);
      ctx.globalAlpha = 1;
    }
    ctx.restore();
  };
}
