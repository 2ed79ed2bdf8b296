/** Values out of a request's object: each is checked, and what nobody took is named in `warnings`. */

import { printable, SevenfoldError } from "../core/errors.ts";

/** A request that is refused: `where` names the field, `status` is HTTP's. */
export class RequestError extends SevenfoldError {
  override name = "RequestError";
  readonly status: number;

  constructor(what: string, where = "", remedy = "", status = 400) {
    super(what, where, remedy);
    this.status = status;
  }
}

// Fields that clients send and that change no answer here.
const HARMLESS: readonly string[] = [
  "user",
  "metadata",
  "store",
  "service_tier",
  "safety_identifier",
  "prompt_cache_key",
  "best_of",
  "parallel_tool_calls",
  "model",
  "encoding_format",
];

export class Fields {
  readonly #values: Readonly<Record<string, unknown>>;
  readonly #taken = new Set<string>();
  readonly #warnings: string[] = [];

  constructor(value: unknown) {
    if (typeof value !== "object" || value === null || Array.isArray(value))
      throw new RequestError("the body is no JSON object", "body", "send an object");
    this.#values = value as Record<string, unknown>;
  }

  /** A field as it came; undefined when it is missing or null. */
  get(name: string): unknown {
    this.#taken.add(name);
    return Object.hasOwn(this.#values, name) ? (this.#values[name] ?? undefined) : undefined;
  }

  number(name: string, fallback: number, least: number, most: number): number {
    const value = this.get(name);
    if (value === undefined) return fallback;
    if (typeof value !== "number" || !(value >= least && value <= most))
      throw new RequestError(`${shown(value)} is no number from ${least} to ${most}`, name, "send one");
    return value;
  }

  integer(name: string, fallback: number, least: number, most: number): number {
    const value = this.number(name, fallback, least, most);
    if (!Number.isInteger(value))
      throw new RequestError(`${value} is no whole number`, name, "send an integer");
    return value;
  }

  flag(name: string, fallback = false): boolean {
    const value = this.get(name);
    if (value === undefined) return fallback;
    if (typeof value !== "boolean")
      throw new RequestError(`${shown(value)} is no boolean`, name, "send true or false");
    return value;
  }

  /** Say in the answer that something was not done as asked. */
  warn(text: string): void {
    this.#warnings.push(text);
  }

  /** The warnings, unknown fields among them. */
  warnings(): string[] {
    const unknown = Object.keys(this.#values).filter(
      (name) => !this.#taken.has(name) && !HARMLESS.includes(name),
    );
    return [
      ...this.#warnings,
      ...unknown.sort().map((name) => `the field '${printable(name, 80)}' is not known here; it was ignored`),
    ];
  }
}

/** A value of a request as a message repeats it. */
export function shown(value: unknown): string {
  return printable(typeof value === "string" ? `'${value}'` : String(JSON.stringify(value)), 80);
}
