/**
 * Ids of what a client sends: raw prompts, infill and chats. A raw prompt may name special tokens; the
 * texts of an infill, and what people say in a chat, may not: there such a name is text.
 */

import { checkText } from "../control/gate.ts";
import type { Tokenizer } from "../tokenizer/tokenizer.ts";
import { RequestError, shown } from "./fields.ts";

const FIM: readonly string[] = ["<|fim_prefix|>", "<|fim_suffix|>", "<|fim_middle|>"];
const HEADINGS: Readonly<Record<string, string>> = {
  system: "### System:",
  developer: "### System:",
  user: "### Instruction:",
  assistant: "### Response:",
  tool: "### Result:",
};

function plain(tokenizer: Tokenizer, text: string, field: string): number[] {
  checkText(text, field);
  return tokenizer.encode(text);
}

/** Ids of a text in which names of special tokens are those. */
export function parsedIds(tokenizer: Tokenizer, text: string, field: string): number[] {
  checkText(text, field);
  // The longest first; of names of one length the first that is reserved.
  const names = [...tokenizer.specials].sort((a, b) => b.length - a.length).filter((name) => name !== "");
  const escaped = names.map((name) => name.replace(/[.*+?^${}()|[\]\\]/g, "\\$&"));
  if (escaped.length === 0) return tokenizer.encode(text);
  return text
    .split(new RegExp(`(${escaped.join("|")})`))
    .flatMap((part, i) => (i % 2 === 1 ? [tokenizer.specialId(part)!] : tokenizer.encode(part)));
}

/** Ids of a raw prompt, with what begins a text before it, once. */
export function rawIds(tokenizer: Tokenizer, text: string, withSpecials: boolean): number[] {
  const ids = withSpecials ? parsedIds(tokenizer, text, "prompt") : plain(tokenizer, text, "prompt");
  const first = ids[0];
  const isMarked = first !== undefined && FIM.includes(tokenizer.specialName(first) ?? "");
  return first !== undefined && (first === tokenizer.roles.begin || isMarked) ? ids : tokenizer.begun(ids);
}

/** Ids of a fill-in-middle prompt: prefix, suffix, then the middle is to come. */
export function infillIds(tokenizer: Tokenizer, prefix: string, suffix: string): number[] {
  const marks = FIM.map((name) => tokenizer.specialId(name));
  if (marks.includes(null))
    throw new RequestError(
      "the vocabulary of this model has no tokens for fill-in-middle",
      "suffix",
      "open a model whose recipe sets train.objectives.fim",
      501,
    );
  const [before, behind, middle] = marks as [number, number, number];
  const ahead = plain(tokenizer, prefix, "prompt");
  return [before, ...ahead, behind, ...plain(tokenizer, suffix, "suffix"), middle];
}

function contentOf(message: Record<string, unknown>, field: string): string {
  const content = message["content"] ?? "";
  if (typeof content === "string") return content;
  if (!Array.isArray(content)) throw new RequestError("the content is no text", field, "send a string");
  return content
    .map((part: unknown) => {
      const { type, text } = (part ?? {}) as { type?: unknown; text?: unknown };
      if ((type !== "text" && type !== "input_text") || typeof text !== "string")
        throw new RequestError(`a part of type ${shown(type)}`, field, "send text parts");
      return text;
    })
    .join("");
}

/** Ids of a chat, up to where the next answer begins. */
export function chatIds(tokenizer: Tokenizer, messages: readonly unknown[]): number[] {
  const lines = messages.map((message, place) => {
    const where = `messages[${place}]`;
    const fields = (typeof message === "object" && message !== null ? message : {}) as Record<
      string,
      unknown
    >;
    const role = fields["role"];
    if (typeof role !== "string" || !Object.hasOwn(HEADINGS, role))
      throw new RequestError(
        `the role ${shown(role)} is not known`,
        where,
        `use ${Object.keys(HEADINGS).join(", ")}`,
      );
    return `${HEADINGS[role]}\n${contentOf(fields, `${where}.content`)}\n\n`;
  });
  const text = `${lines.join("")}${HEADINGS["assistant"]}\n`;
  return tokenizer.begun(plain(tokenizer, text, "messages"));
}
