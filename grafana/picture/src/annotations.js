// What is marked over a chart, as Grafana marks it: a dashed line with a foot; two with a bar below for a while.

const FOOT_PIXELS = 5;
const BAR_PIXELS = 3;

// [{color, from, to}] in milliseconds, of the dashboard's annotation queries; samples without a gap are one region.
export function regionsOf(annotations, theme) {
  return annotations.flatMap(({ iconColor, target: { answer, step } }) => {
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
  return ({ ctx, bbox, valToPos }) => {
    ctx.save();
    ctx.lineWidth = devicePixelRatio;
    for (const { color, from, to } of regions) {
      const [left, right] = [from, to].map((time) => Math.round(valToPos(time, 'x', true)));
      ctx.strokeStyle = ctx.fillStyle = color;
      if (left === right) {
        drawLine(ctx, left, bbox);
        drawFoot(ctx, left, bbox);
      } else {
        [left, right].forEach((x) => drawLine(ctx, x, bbox));
        drawBar(ctx, left, right, bbox);
      }
    }
    ctx.restore();
  };
}

function drawLine(ctx, x, { top, height }) {
  ctx.setLineDash([4, 4]);
  ctx.beginPath();
  ctx.moveTo(x, top);
  ctx.lineTo(x, top + height);
  ctx.stroke();
}

function drawFoot(ctx, x, { top, height }) {
  const size = FOOT_PIXELS * devicePixelRatio;
  ctx.beginPath();
  ctx.moveTo(x, top + height);
  ctx.lineTo(x - size, top + height + size);
  ctx.lineTo(x + size, top + height + size);
  ctx.fill();
}

function drawBar(ctx, left, right, { top, height }) {
  ctx.fillRect(left, top + height, right - left, BAR_PIXELS * devicePixelRatio);
  ctx.globalAlpha = 0.1;
  ctx.fillRect(left, top, right - left, height);
  ctx.globalAlpha = 1;
}
