/** The playground: completion, infill and chat with the model that is open, and what they cost. */

import type { Answer, WorkerClient } from "../src/index.ts";
import { byId, count, describe, make, reasonOf } from "./dom.ts";

type Mode = "complete" | "infill" | "chat";
interface Turn {
  readonly role: "user" | "assistant";
  content: string;
}

const LABELS: Readonly<Record<Mode, string>> = {
  complete: "Text to complete",
  infill: "Text before the gap",
  chat: "Your message",
};
const EXAMPLES: Readonly<Record<Mode, string>> = {
  complete: 'def add(a, b):\n    """Return',
  infill: "def area(radius):\n    return ",
  chat: "Write a function that adds two numbers.",
};

interface Parts {
  readonly prompt: HTMLTextAreaElement;
  readonly suffix: HTMLTextAreaElement;
  readonly tokens: HTMLInputElement;
  readonly run: HTMLButtonElement;
  readonly stop: HTMLButtonElement;
  readonly answer: HTMLElement;
  readonly turns: HTMLElement;
}

export class Playground {
  readonly #client: () => WorkerClient | null;
  readonly #answered: () => Promise<string>;
  readonly #drafts: Record<Mode, string> = { ...EXAMPLES };
  readonly #turns: Turn[] = [];
  readonly #parts: Parts;
  #mode: Mode = "complete";
  #running: AbortController | null = null;

  /** `answered` runs after each answer and gives the engine's name. */
  constructor(client: () => WorkerClient | null, answered: () => Promise<string>) {
    this.#client = client;
    this.#answered = answered;
    this.#parts = {
      prompt: byId("prompt"),
      suffix: byId("suffix"),
      tokens: byId("tokens"),
      run: byId("run"),
      stop: byId("stop"),
      answer: byId("answer"),
      turns: byId("turns"),
    };
    byId<HTMLFormElement>("form").addEventListener("submit", (event) => {
      event.preventDefault();
      void this.#run();
    });
    for (const input of document.querySelectorAll<HTMLInputElement>("input[name=mode]"))
      input.addEventListener("change", () => this.#choose(input.value as Mode));
    this.#parts.stop.addEventListener("click", () => this.#running?.abort());
    document.addEventListener("keydown", (event) => {
      if (event.key === "Escape") this.#running?.abort();
      if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) void this.#run();
    });
    this.#choose("complete");
  }

  /** A model was opened: forget the talk, and say what it cannot do. */
  reset(canInfill: boolean): void {
    this.#running?.abort();
    this.#turns.length = 0;
    this.#showTurns();
    this.#parts.answer.replaceChildren();
    byId("figures").replaceChildren();
    const infill = document.querySelector<HTMLInputElement>("input[value=infill]")!;
    infill.disabled = !canInfill;
    if (!canInfill && this.#mode === "infill") {
      document.querySelector<HTMLInputElement>("input[value=complete]")!.checked = true;
      this.#choose("complete");
    }
    byId("mode-note").textContent = canInfill
      ? ""
      : "This model was not trained to fill in: its vocabulary has no tokens for it.";
  }

  #choose(mode: Mode): void {
    const { prompt, turns } = this.#parts;
    if (mode !== this.#mode) this.#drafts[this.#mode] = prompt.value;
    this.#mode = mode;
    prompt.value = this.#drafts[mode];
    byId("prompt-label").textContent = LABELS[mode];
    byId("suffix-box").hidden = mode !== "infill";
    byId("answer-box").hidden = mode === "chat";
    turns.hidden = mode !== "chat";
  }

  #showTurns(): void {
    const names = { user: "You", assistant: "Model" };
    this.#parts.turns.replaceChildren(
      ...this.#turns.map(({ role, content }) =>
        make("div", `turn ${role}`, make("b", "", names[role]), content),
      ),
    );
  }

  #body(): object {
    const { prompt, suffix, tokens } = this.#parts;
    const common = {
      max_tokens: Number(tokens.value) || 64,
      stream: true,
      stream_options: { include_usage: true },
    };
    if (this.#mode === "chat") return { ...common, messages: this.#turns.slice(0, -1) };
    if (this.#mode === "infill") return { ...common, prompt: prompt.value, suffix: suffix.value };
    return { ...common, prompt: prompt.value };
  }

  // Where the text of an answer goes, piece by piece.
  #sink(): (text: string) => void {
    const { prompt, suffix, answer } = this.#parts;
    if (this.#mode === "chat") {
      const turn: Turn = { role: "assistant", content: "" };
      this.#turns.push({ role: "user", content: prompt.value }, turn);
      prompt.value = "";
      this.#showTurns();
      const shown = this.#parts.turns.lastElementChild!;
      return (text) => {
        turn.content += text;
        shown.append(text);
      };
    }
    const made = make("span");
    answer.replaceChildren(make("span", "given", prompt.value), made);
    if (this.#mode === "infill") answer.append(make("span", "given", suffix.value));
    return (text) => made.append(text);
  }

  async #run(): Promise<void> {
    const client = this.#client();
    if (!client || this.#running || (this.#mode === "chat" && this.#parts.prompt.value === "")) return;
    const { run, stop } = this.#parts;
    const running = (this.#running = new AbortController());
    const put = this.#sink();
    const body = this.#body();
    [run.disabled, stop.disabled] = [true, false];
    try {
      const kind = this.#mode === "chat" ? "chat" : "completion";
      await this.#stream(client, kind, body, running.signal, put);
    } catch (error) {
      describe(byId("figures"), [["Refused", make("span", "error", reasonOf(error))]], true);
    } finally {
      this.#running = null;
      [run.disabled, stop.disabled] = [false, true];
    }
  }

  async #stream(
    client: WorkerClient,
    kind: "completion" | "chat",
    body: object,
    signal: AbortSignal,
    put: (text: string) => void,
  ): Promise<void> {
    const begin = performance.now();
    let first = 0;
    let end = begin;
    let last: Answer | null = null;
    const warnings: string[] = [];
    const parts = (await client.create(kind, body as { stream: true }, { signal })) as AsyncIterable<Answer>;
    for await (const part of parts) {
      const choice = part.choices[0];
      const text = choice?.text ?? choice?.delta?.content ?? "";
      if (text !== "" && first === 0) first = performance.now();
      if (text !== "") end = performance.now();
      put(text);
      if (part.usage) last = part;
      warnings.push(...(part.warnings ?? []));
    }
    const n = last?.usage?.completion_tokens ?? 0;
    const engine = await this.#answered();
    describe(
      byId("figures"),
      [
        ["Tokens", count(n)],
        ["Speed", `${count(Math.round((1000 * n) / Math.max(end - begin, 0.1)))} tokens/s`],
        ["First text", `${(first === 0 ? 0 : first - begin).toFixed(1)} ms`],
        ["Backend", engine],
        ["Root", make("span", "mono", client.root.slice(0, 12))],
        ...warnings.map((warning) => ["Warning", warning] as const),
      ],
      true,
    );
  }
}
