/** CM-1 (specs/control.md): the gate as a machine over a stream in pieces. No way leads back from a refusal. */

import { type Bytes, utf8 } from "../core/bytes.ts";
import { GateError } from "../core/errors.ts";
import { isControl } from "../core/text.ts";

export const [SOH, STX, ETX, EOT, SO, SI, DLE] = [0x01, 0x02, 0x03, 0x04, 0x0e, 0x0f, 0x10];
const MEANINGS: readonly number[] = [SOH, STX, ETX, EOT, SO, SI, DLE];
const MAX_DEPTH = 15;
const MAX_HEADER_BYTES = 1024;
export const MAX_BODY_BYTES = 16 * 2 ** 20;

type State = "start" | "header" | "body" | "literal" | "closed" | "ended" | "refused";

// Lengths of characters by their first byte; 0 for a byte that begins none.
function lengthOf(first: number): number {
  if (first < 0x80) return 1;
  if (first < 0xc2 || first > 0xf4) return 0;
  return first < 0xe0 ? 2 : first < 0xf0 ? 3 : 4;
}

// Whether the second byte of a character may stand behind its first: shortest form, no surrogate.
function mayFollow(first: number, second: number): boolean {
  const least = first === 0xe0 ? 0xa0 : first === 0xf0 ? 0x90 : 0x80;
  const most = first === 0xed ? 0x9f : first === 0xf4 ? 0x8f : 0xbf;
  return second >= least && second <= most;
}

export class Gate {
  #state: State = "start";
  #depth = 0;
  #offset = 0;
  #held: number[] = [];
  #n_header = 0;
  #n_body = 0;

  /** Whether a call may run. */
  get isOpen(): boolean {
    return this.#state === "body";
  }

  /** Whether the stream was one whole frame. */
  get isEnded(): boolean {
    return this.#state === "ended";
  }

  /** Refuse a call while the gate is shut. */
  requireOpen(call: string): void {
    if (!this.isOpen) throw new GateError(`${call} outside STX..ETX`, "CM-1 gate", "open a session");
  }

  feed(bytes: Bytes): void {
    for (const byte of bytes) {
      try {
        this.#take(byte);
      } catch (error) {
        this.#state = "refused";
        throw error;
      }
      ++this.#offset;
    }
  }

  /** The gate in the same state, for a second session. */
  copy(): Gate {
    const made = new Gate();
    made.#state = this.#state;
    made.#depth = this.#depth;
    made.#offset = this.#offset;
    made.#held = [...this.#held];
    made.#n_header = this.#n_header;
    made.#n_body = this.#n_body;
    return made;
  }

  #refuse(what: string): never {
    const place = `CM-1 stream, offset ${this.#offset}`;
    throw new GateError(`${what}, in state ${this.#state}`, place, "send one frame of plain text");
  }

  #take(byte: number): void {
    if (byte < 0x80 && isControl(byte)) return this.#control(byte);
    if (this.#state !== "header" && this.#state !== "body") this.#refuse("text where there is none");
    const first = this.#held[0];
    if (first === undefined) {
      if (lengthOf(byte) === 0) this.#refuse("a byte that is not UTF-8");
    } else if (this.#held.length === 1 ? !mayFollow(first, byte) : (byte & 0xc0) !== 0x80) {
      this.#refuse("bytes that are not UTF-8");
    }
    this.#held.push(byte);
    if (this.#held.length === lengthOf(this.#held[0]!)) this.#character();
  }

  // The character whose bytes are held is whole.
  #character(): void {
    const [first, second] = this.#held;
    const isWhite = first === 9 || first === 10 || first === 13;
    // C1 is C2 80 to C2 9F.
    const isC1 = first === 0xc2 && second! < 0xa0;
    if (isC1 || (isWhite && this.#state === "header")) this.#refuse("a control character");
    this.#keep(this.#held.length);
    this.#held = [];
  }

  #keep(n: number): void {
    if (this.#state === "header") this.#n_header += n;
    else this.#n_body += n;
    if (this.#n_header > MAX_HEADER_BYTES) this.#refuse("a header past 1024 bytes");
    if (this.#n_body > MAX_BODY_BYTES) this.#refuse("a body past 16 MiB");
  }

  #control(code: number): void {
    if (this.#held.length > 0) this.#refuse("bytes that are not UTF-8");
    const state = this.#state;
    if (state === "literal" && MEANINGS.includes(code)) {
      this.#state = "body";
      this.#keep(1);
    } else if (state === "start" && code === SOH) this.#state = "header";
    else if (state === "header" && code === STX) this.#state = "body";
    else if (state === "body" && this.#depth === 0 && code === ETX) this.#state = "closed";
    else if (state === "closed" && code === EOT) this.#state = "ended";
    else if (state === "body" && code === DLE) this.#state = "literal";
    else if (state === "body" && code === SO && this.#depth < MAX_DEPTH) ++this.#depth;
    else if (state === "body" && code === SI && this.#depth > 0) --this.#depth;
    else this.#refuse("a control character");
  }
}

/** Refuse a text with a control character other than TAB, LF and CR, or past the size of a body. */
export function checkText(text: string, where: string): void {
  let at = 0;
  for (const char of text) {
    const codePoint = char.codePointAt(0)!;
    if (isControl(codePoint)) {
      const name = codePoint.toString(16).toUpperCase().padStart(4, "0");
      throw new GateError(`control character U+${name} at character ${at}`, where, "remove it");
    }
    ++at;
  }
  const n_bytes = utf8(text).length;
  if (n_bytes > MAX_BODY_BYTES)
    throw new GateError(`${n_bytes} bytes, the gate takes ${MAX_BODY_BYTES}`, where, "shorten it");
}

/** An open gate with a prompt in its body: SOH STX prompt. */
export function openGate(prompt: string, where = "prompt"): Gate {
  checkText(prompt, where);
  const gate = new Gate();
  gate.feed(Uint8Array.of(SOH, STX));
  gate.feed(utf8(prompt));
  return gate;
}
