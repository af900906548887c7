// The command line of the long checks in scripts/: options with a line of help each, and a bar that says how far a run is.

/**
 * Reads the command line by `options`, a map from an option's name to [default, placeholder, help]; a default of false makes a flag. --help
 * prints the help and ends with 0; what is not known, or is no number where one is due, ends with 2. The values, by name.
 */
export function commandLine(command, what, options) {
  const all = { ...options, json: ["", "FILE", "the result as JSON, to a file or - for standard output"] };
  const words = process.argv.slice(2);
  if (words.includes("--help")) {
    console.log(help(command, what, all));
    process.exit(0);
  }
  const values = Object.fromEntries(Object.entries(all).map(([name, [value]]) => [name, value]));
  while (words.length > 0) {
    const [, name = "", equals, given] = /^--([^=]+)(?:(=)(.*))?$/s.exec(words.shift()) ?? [];
    const [value] = all[name] ?? refuse(command, `unknown option; --help lists them`);
    const text = value === false || equals !== undefined ? given : words.shift();
    if (value !== false && text === undefined) refuse(command, `--${name} needs a value`);
    if (typeof value === "number" && !Number.isFinite(Number(text))) refuse(command, `--${name} ${text}: not a number`);
    values[name] = value === false ? true : typeof value === "number" ? Number(text) : text;
  }
  return values;
}

function refuse(command, why) {
  console.error(`${command}: ${why}`);
  process.exit(2);
}

function help(command, what, options) {
  const rows = Object.entries(options).map(([name, [value, placeholder, text]]) => {
    const shown = value === false || value === "" || value < 0 ? "" : ` (${value})`;
    return [`--${name}${value === false ? "" : ` ${placeholder}`}`, `${text}${shown}`];
  });
  const width = Math.max(...rows.map(([left]) => left.length));
  return `usage: ${command} [OPTIONS]\n${what}\n\n${rows.map(([l, r]) => `  ${l.padEnd(width)}  ${r}`).join("\n")}`;
}

const duration = (s) => (s < 120 ? `${Math.round(s)} s` : `${Math.round(s / 60)} min`);

/** A line that is written over on a terminal, and not at all elsewhere: how much of `total` is done, and how long the rest will take. */
export class Progress {
  #began = performance.now();
  #total;
  #unit;

  constructor(total, unit) {
    this.#total = total;
    this.#unit = unit;
  }

  at(done, note = "") {
    if (!process.stderr.isTTY) return;
    const s = (performance.now() - this.#began) / 1000;
    const left = done > 0 && done < this.#total ? `, about ${duration((s / done) * (this.#total - done))} left` : "";
    const percent = Math.floor((100 * done) / this.#total);
    const more = note === "" ? "" : `, ${note}`;
    process.stderr.write(`\r\x1b[K${percent} %: ${done} of ${this.#total} ${this.#unit}${more}, ${duration(s)}${left}`);
  }

  /** Takes the line away: before something else is printed, and at the end. */
  clear() {
    if (process.stderr.isTTY) process.stderr.write("\r\x1b[K");
  }
}
