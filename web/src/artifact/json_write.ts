/** Canonical bytes: keys by code point, no spaces, ASCII with escapes, floats as Python's repr. */

import { compareText } from "../core/bytes.ts";
import { type Json, Num } from "./json.ts";

const SHORT: Readonly<Record<string, string>> = {
  '"': '\\"',
  "\\": "\\\\",
  "\b": "\\b",
  "\f": "\\f",
  "\n": "\\n",
  "\r": "\\r",
  "\t": "\\t",
};

function writeString(text: string): string {
  const escaped = text.replace(
    /["\\]|[^\x20-\x7e]/g,
    (unit) => SHORT[unit] ?? `\\u${unit.charCodeAt(0).toString(16).padStart(4, "0")}`,
  );
  return `"${escaped}"`;
}

/** A finite double as Python's repr writes it. */
export function reprDouble(value: number): string {
  const sign = value < 0 || Object.is(value, -0) ? "-" : "";
  const [mantissa, power] = Math.abs(value).toExponential().split("e") as [string, string];
  const digits = mantissa.replace(".", "");
  const exponent = Number(power);
  if (exponent < -4 || exponent >= 16) {
    const point = digits.length > 1 ? `${digits[0]}.${digits.slice(1)}` : digits;
    const size = String(Math.abs(exponent)).padStart(2, "0");
    return `${sign}${point}e${exponent < 0 ? "-" : "+"}${size}`;
  }
  if (exponent < 0) return `${sign}0.${"0".repeat(-exponent - 1)}${digits}`;
  const whole = digits.slice(0, exponent + 1).padEnd(exponent + 1, "0");
  return `${sign}${whole}.${digits.slice(exponent + 1) || "0"}`;
}

function writeNumber(number: Num): string | null {
  if (number.isInteger) return number.text === "-0" ? "0" : number.text;
  return Number.isFinite(number.value) ? reprDouble(number.value) : null;
}

function write(value: Json, out: string[]): boolean {
  if (value === null || typeof value === "boolean") out.push(String(value));
  else if (typeof value === "string") out.push(writeString(value));
  else if (value instanceof Num) {
    const text = writeNumber(value);
    if (text === null) return false;
    out.push(text);
  } else if (Array.isArray(value)) {
    out.push("[");
    for (let i = 0; i < value.length; ++i) {
      if (i > 0) out.push(",");
      if (!write(value[i]!, out)) return false;
    }
    out.push("]");
  } else {
    out.push("{");
    const keys = [...value.keys()].sort(compareText);
    for (let i = 0; i < keys.length; ++i) {
      out.push(i > 0 ? "," : "", writeString(keys[i]!), ":");
      if (!write(value.get(keys[i]!)!, out)) return false;
    }
    out.push("}");
  }
  return true;
}

/** The canonical text, all ASCII; null where a number is not finite. */
export function canonical(value: Json): string | null {
  const out: string[] = [];
  return write(value, out) ? out.join("") : null;
}

/** What a program made, as JSON of this room: whole numbers are integers. */
export function toJson(value: unknown): Json {
  if (value === null || typeof value === "boolean" || typeof value === "string") return value;
  if (typeof value === "number") return new Num(String(value), Number.isInteger(value));
  if (Array.isArray(value)) return value.map(toJson);
  return new Map(Object.entries(value as object).map(([key, item]) => [key, toJson(item)]));
}
