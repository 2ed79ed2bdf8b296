/**
 * What the gate says of streams: a JSON list of "open", "ended", "shut" or "refused", from a JSON list of hex
 * texts.
 */

import { readFileSync } from "node:fs";
import { Gate } from "../../src/control/gate.ts";
import { GateError } from "../../src/core/errors.ts";

function stateOf(stream: Uint8Array): string {
  const gate = new Gate();
  for (const byte of stream)
    try {
      gate.feed(Uint8Array.of(byte));
    } catch (error) {
      if (error instanceof GateError) return "refused";
      throw error;
    }
  return gate.isEnded ? "ended" : gate.isOpen ? "open" : "shut";
}

const streams = JSON.parse(readFileSync(process.argv[2]!, "utf8")) as string[];
console.log(JSON.stringify(streams.map((text) => stateOf(new Uint8Array(Buffer.from(text, "hex"))))));
