/** Plots as plain SVG, readable as text and without a library: horizontal bars on a logarithmic axis, and lines. */

const FONT = 'font-family="sans-serif" fill="#24292f"';
export const COLOURS = ["#57606a", "#1f6feb", "#d29922", "#2da44e"] as const;

const text = (x: number, y: number, s: string, more = "", size = 12): string =>
  `<text x="${x.toFixed(1)}" y="${y.toFixed(1)}" font-size="${size}" ${FONT} ${more}>${s.replaceAll("&", "&amp;").replaceAll("<", "&lt;")}</text>`;

function frame(width: number, height: number, title: string, parts: readonly string[]): string {
  return `${[
    `<svg xmlns="http://www.w3.org/2000/svg" width="${width}" height="${height}" viewBox="0 0 ${width} ${height}">`,
    `<rect width="${width}" height="${height}" fill="#ffffff"/>`,
    text(12, 20, title, 'font-weight="bold"'),
    ...parts,
    "</svg>",
  ].join("\n")}\n`;
}

const legend = (names: readonly string[], x: number, y: number): string[] =>
  names.flatMap((name, i) => [
    `<rect x="${x + i * 170}" y="${y - 10}" width="12" height="12" fill="${COLOURS[i]}"/>`,
    text(x + i * 170 + 18, y, name),
  ]);

/** 1, 3, 10, 30, … from below `low` to above `high`. */
function logTicks(low: number, high: number): number[] {
  const ticks: number[] = [];
  for (let tick = 10 ** Math.floor(Math.log10(low)); ; tick *= 10) {
    for (const t of [tick, 3 * tick]) if (t * 3.4 > low) ticks.push(t);
    if (ticks.at(-1)! >= high) return ticks;
  }
}

const short = (n: number): string => (n >= 100 ? n.toFixed(0) : n >= 10 ? n.toFixed(0) : n.toFixed(1));

export interface BarGroup {
  readonly name: string;
  /** One of each series; undefined for none. */
  readonly values: readonly (number | undefined)[];
}

/** Groups of bars, one bar a series. */
export function barsSvg(title: string, series: readonly string[], groups: readonly BarGroup[]): string {
  const all = groups.flatMap((g) => g.values.filter((v) => v !== undefined && v > 0)) as number[];
  const ticks = logTicks(Math.min(...all), Math.max(...all));
  const [low, high] = [ticks[0]!, ticks.at(-1)!];
  const [left, right, width] = [300, 60, 960];
  const bar = 10;
  const row = series.length * (bar + 2) + 12;
  const height = 64 + groups.length * row + 26;
  const x = (v: number): number => left + (Math.log(v / low) / Math.log(high / low)) * (width - left - right);
  const parts = legend(series, left, 42);
  for (const tick of ticks) {
    parts.push(
      `<line x1="${x(tick).toFixed(1)}" y1="54" x2="${x(tick).toFixed(1)}" y2="${height - 24}" stroke="#d8dee4"/>`,
    );
    parts.push(text(x(tick), height - 8, String(Number(tick.toPrecision(1))), 'text-anchor="middle"'));
  }
  groups.forEach((g, i) => {
    const y = 60 + i * row;
    parts.push(text(left - 8, y + (row - 12) / 2 + 4, g.name, 'text-anchor="end"'));
    g.values.forEach((v, j) => {
      if (v === undefined || v <= 0) return;
      const top = y + j * (bar + 2);
      const w = Math.max(1, x(v) - left).toFixed(1);
      parts.push(`<rect x="${left}" y="${top}" width="${w}" height="${bar}" fill="${COLOURS[j]}"/>`);
      parts.push(text(x(v) + 4, top + bar - 1, short(v), "", 10));
    });
  });
  return frame(width, height, title, parts);
}

export interface Line {
  readonly name: string;
  readonly points: readonly (readonly [x: number, y: number])[];
}

/** Small line plots side by side over one axis, each with its own scale from 0. */
export function linesSvg(
  title: string,
  x_name: string,
  plots: readonly { readonly unit: string; readonly lines: readonly Line[] }[],
): string {
  const [plot_width, plot_height] = [420, 260];
  const width = 24 + plots.length * (plot_width + 36);
  const height = plot_height + 110;
  const parts: string[] = [];
  plots.forEach((plot, i) => {
    const left = 60 + i * (plot_width + 36);
    const [top, bottom] = [60, 60 + plot_height];
    const points = plot.lines.flatMap((l) => l.points);
    const max_x = Math.max(...points.map((p) => p[0]));
    const most = Math.max(...points.map((p) => p[1]));
    const step = [1, 2, 5, 10, 20, 50, 100, 200, 500].find((s) => most / s <= 6) ?? 1000;
    const max_y = Math.ceil(most / step) * step;
    const x = (v: number): number => left + (v / max_x) * (plot_width - 40);
    const y = (v: number): number => bottom - (v / max_y) * plot_height;
    for (let v = 0; v <= max_y; v += step) {
      parts.push(`<line x1="${left}" y1="${y(v)}" x2="${x(max_x)}" y2="${y(v)}" stroke="#d8dee4"/>`);
      parts.push(text(left - 6, y(v) + 4, String(v), 'text-anchor="end"'));
    }
    for (const v of new Set(points.map((p) => p[0])))
      parts.push(text(x(v), bottom + 16, String(v), 'text-anchor="middle"'));
    parts.push(text(x(max_x / 2), bottom + 34, x_name, 'text-anchor="middle"'), text(left - 40, top - 12, plot.unit));
    plot.lines.forEach((line, j) => {
      const at = line.points.map((p) => `${x(p[0]).toFixed(1)},${y(p[1]).toFixed(1)}`);
      parts.push(`<polyline points="${at.join(" ")}" fill="none" stroke="${COLOURS[j]}" stroke-width="2"/>`);
      for (const p of line.points)
        parts.push(`<circle cx="${x(p[0]).toFixed(1)}" cy="${y(p[1]).toFixed(1)}" r="3" fill="${COLOURS[j]}"/>`);
      parts.push(`<rect x="${left + j * 150}" y="${top - 34}" width="12" height="12" fill="${COLOURS[j]}"/>`);
      parts.push(text(left + j * 150 + 18, top - 24, line.name));
    });
  });
  return frame(width, height, title, parts);
}
