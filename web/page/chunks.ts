/** Draws the chunks of a file as they are checked: one square each, or one for several of a large file. */

import type { Progress } from "../src/index.ts";

type State = Progress["state"] | "missing";
const SQUARE = 10;
const ROWS = 4;

export class ChunkMap {
  readonly #canvas: HTMLCanvasElement;
  #states: State[] = [];
  #isWaiting = false;

  constructor(canvas: HTMLCanvasElement) {
    this.#canvas = canvas;
    globalThis.addEventListener("resize", () => this.#draw());
  }

  begin(): void {
    this.#states = [];
    this.#draw();
  }

  told(progress: Progress): void {
    if (this.#states.length !== progress.n_chunks)
      this.#states = new Array<State>(progress.n_chunks).fill("missing");
    this.#states[progress.chunk] = progress.state;
    if (this.#isWaiting) return;
    this.#isWaiting = true;
    // A hidden tab draws nothing, and the download goes on.
    requestAnimationFrame(() => {
      this.#isWaiting = false;
      this.#draw();
    });
  }

  #draw(): void {
    const canvas = this.#canvas;
    const ratio = globalThis.devicePixelRatio || 1;
    const width = canvas.clientWidth;
    const n_columns = Math.max(1, Math.floor(width / SQUARE));
    const n_squares = Math.min(this.#states.length, n_columns * ROWS);
    const height = SQUARE * Math.max(1, Math.ceil(n_squares / n_columns));
    canvas.style.height = `${height}px`;
    canvas.width = Math.round(width * ratio);
    canvas.height = Math.round(height * ratio);
    const context = canvas.getContext("2d");
    if (!context) return;
    context.scale(ratio, ratio);
    const style = getComputedStyle(canvas);
    const colours: Readonly<Record<State, string>> = {
      missing: style.getPropertyValue("--line"),
      kept: style.getPropertyValue("--kept"),
      fetched: style.getPropertyValue("--fetched"),
      wrong: style.getPropertyValue("--bad"),
    };
    for (let i = 0; i < n_squares; ++i) {
      const begin = Math.floor((i * this.#states.length) / n_squares);
      const end = Math.floor(((i + 1) * this.#states.length) / n_squares);
      // The worst of a square is its colour.
      const part = this.#states.slice(begin, end);
      const state = (["wrong", "missing", "fetched"] as const).find((s) => part.includes(s)) ?? "kept";
      context.fillStyle = colours[state];
      const [x, y] = [(i % n_columns) * SQUARE, Math.floor(i / n_columns) * SQUARE];
      context.fillRect(x, y, SQUARE - 2, SQUARE - 2);
    }
  }
}
