// Numbers with their units, and times. Pure.
const whole = new Intl.NumberFormat("en", { maximumFractionDigits: 0 });
const tenth = new Intl.NumberFormat("en", { maximumFractionDigits: 1 });
const NONE = "–";

/** 12345 -> "12,345" */
export function count(number) {
  return number == null ? NONE : whole.format(number);
}

/** 1, "record" -> "1 record"; 12345, "record" -> "12,345 records" */
export function counted(number, noun) {
  return `${count(number)} ${noun}${number === 1 ? "" : "s"}`;
}

/** "no broker answers" -> "No broker answers." */
export function sentence(reason) {
  return reason ? `${reason[0].toUpperCase()}${reason.slice(1)}.` : "";
}

/** 12345678 -> "12.3 million": where the last digits say nothing. */
export function roughly(number) {
  if (number == null) return NONE;
  if (number >= 1e9) return `${tenth.format(number / 1e9)} billion`;
  return number >= 1e6 ? `${tenth.format(number / 1e6)} million` : whole.format(number);
}

/** 51.96 -> "52.0"; 5196 -> "5,196": events a second, without the unit. */
export function rate(perSecond) {
  if (perSecond == null) return NONE;
  if (perSecond === 0) return "0";
  return perSecond < 100 ? (Math.max(perSecond, 0.1)).toFixed(1) : whole.format(perSecond);
}

/** 0.057 -> "57 ms"; 75 -> "1 min 15 s" */
export function duration(seconds) {
  if (seconds == null) return NONE;
  if (seconds < 0) return `-${duration(-seconds)}`;
  if (seconds < 0.0005) return "0 ms";
  if (seconds < 0.9995) return `${Math.max(1, Math.round(seconds * 1000))} ms`;
  if (seconds < 59.95) return `${seconds < 10 ? seconds.toFixed(1) : Math.round(seconds)} s`;
  const s = Math.round(seconds);
  if (s < 3600) return parts(Math.floor(s / 60), "min", s % 60, "s");
  if (s < 86400) return parts(Math.floor(s / 3600), "h", Math.floor((s % 3600) / 60), "min");
  return parts(Math.floor(s / 86400), "d", Math.floor((s % 86400) / 3600), "h");
}

/** 2048 -> "2.0 KiB" */
export function bytes(number) {
  if (number < 1024) return counted(number, "byte");
  return number < 1048576 ? `${(number / 1024).toFixed(1)} KiB` : `${(number / 1048576).toFixed(1)} MiB`;
}

function parts(large, largeUnit, small, smallUnit) {
  return small ? `${large} ${largeUnit} ${small} ${smallUnit}` : `${large} ${largeUnit}`;
}

const pad = (number, size = 2) => String(number).padStart(size, "0");

/** A time (RFC 3339) in UTC: "2026-01-15 10:30:00.123456 UTC", with every digit that it came with. */
export function utc(at) {
  const moment = new Date(at);
  if (Number.isNaN(moment.getTime())) return String(at);
  const fraction = /T\d\d:\d\d:\d\d(\.\d+)?/i.exec(at)?.[1] ?? "";
  return `${moment.toISOString().slice(0, 19).replace("T", " ")}${fraction} UTC`;
}

/** A time (RFC 3339) in the viewer's zone or in UTC: the clock alone if it is of the day of `today`. */
export function clock(at, zone, today, withMs = false) {
  const moment = new Date(at);
  if (Number.isNaN(moment.getTime())) return String(at);
  const day = dayIn(moment, zone);
  const time = timeIn(moment, zone) + (withMs ? `.${pad(moment.getUTCMilliseconds(), 3)}` : "");
  return day === dayIn(new Date(today), zone) ? time : `${day} ${time}`;
}

/** The day of a moment: "2026-01-15". */
export function dayIn(moment, zone) {
  return zone === "UTC"
    ? moment.toISOString().slice(0, 10)
    : `${moment.getFullYear()}-${pad(moment.getMonth() + 1)}-${pad(moment.getDate())}`;
}

function timeIn(moment, zone) {
  return zone === "UTC"
    ? moment.toISOString().slice(11, 19)
    : `${pad(moment.getHours())}:${pad(moment.getMinutes())}:${pad(moment.getSeconds())}`;
}
