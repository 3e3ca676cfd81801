// Numbers, sizes and times as texts.

const GROUPED = new Intl.NumberFormat('en-US', { maximumFractionDigits: 0 });

/** A count with its digits in groups. */
export function count(value) {
  return value === undefined || value === null ? '–' : GROUPED.format(Number(value));
}

/** A rate or level, short. */
export function short(value) {
  if (value === null || value === undefined) return '–';
  const number = Number(value);
  if (number === 0) return '0';
  if (number < 10) return number.toFixed(number < 1 ? 2 : 1).replace(/\.?0+$/, '');
  if (number < 10_000) return count(Math.round(number));
  if (number < 1e6) return `${(number / 1e3).toFixed(number < 1e5 ? 1 : 0)} k`;
  if (number < 1e9) return `${(number / 1e6).toFixed(1)} M`;
  return `${(number / 1e9).toFixed(1)} G`;
}

/** A size in bytes. */
export function bytes(value) {
  if (value === null || value === undefined) return '–';
  const number = Number(value);
  const units = ['B', 'KiB', 'MiB', 'GiB', 'TiB'];
  let unit = 0;
  let size = number;
  while (size >= 1024 && unit < units.length - 1) {
    size /= 1024;
    unit += 1;
  }
  return `${unit === 0 || size >= 100 ? Math.round(size) : size.toFixed(1)} ${units[unit]}`;
}

/** A duration in seconds. */
export function duration(seconds) {
  if (seconds === null || seconds === undefined) return '–';
  const value = Math.max(0, Number(seconds));
  if (value < 1) return `${Math.round(value * 1000)} ms`;
  if (value < 60) return `${value < 10 ? value.toFixed(1) : Math.round(value)} s`;
  if (value < 3600) return `${Math.floor(value / 60)} min ${Math.round(value % 60)} s`;
  if (value < 86_400) return `${Math.floor(value / 3600)} h ${Math.floor((value % 3600) / 60)} min`;
  return `${Math.floor(value / 86_400)} d ${Math.floor((value % 86_400) / 3600)} h`;
}

/** An amount of US dollars, with the digits that matter. */
export function dollars(value) {
  const number = Number(value);
  if (number === 0) return '$0';
  if (number < 0.01) return `$${number.toPrecision(2)}`;
  return `$${number.toLocaleString('en-US', {
    minimumFractionDigits: 2, maximumFractionDigits: number < 1 ? 4 : 2 })}`;
}

/** Time since, or until, a moment. */
export function relative(text) {
  const seconds = (Date.now() - Date.parse(text)) / 1000;
  if (Number.isNaN(seconds)) return text;
  const whole = Math.round(Math.abs(seconds));
  if (whole === 0) return 'now';
  const distance = whole < 60 ? `${whole} s` : duration(whole);
  return seconds > 0 ? `${distance} ago` : `in ${distance}`;
}

/** A noun with its number. */
export function plural(number, one, many = `${one}s`) {
  return `${count(number)} ${Number(number) === 1 ? one : many}`;
}
