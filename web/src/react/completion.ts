/** A hook for React: an answer that grows while it comes, and that ends with its component. */

import { useCallback, useEffect, useRef, useState } from "react";
import type { Answer } from "../api/answer.ts";
import type { Body, Transport } from "../api/fetch.ts";
import type { Kind } from "../api/request.ts";

export interface Completion {
  readonly text: string;
  readonly isRunning: boolean;
  readonly error: Error | null;
  /** Ask; an answer that is still coming ends. */
  readonly run: (body: Body) => Promise<void>;
  readonly stop: () => void;
}

/** `client` is a `Client` or a `WorkerClient`; null while none is open. */
export function useCompletion(client: Transport | null, kind: Kind = "completion"): Completion {
  const [text, setText] = useState("");
  const [isRunning, setIsRunning] = useState(false);
  const [error, setError] = useState<Error | null>(null);
  const running = useRef<AbortController | null>(null);
  const stop = useCallback(() => running.current?.abort(), []);
  useEffect(() => stop, []);
  const run = useCallback(
    async (body: Body) => {
      running.current?.abort();
      const mine = (running.current = new AbortController());
      setText("");
      setError(null);
      setIsRunning(true);
      try {
        const asked = client?.create(kind, { ...body, stream: true }, { signal: mine.signal });
        for await (const { choices } of ((await asked) ?? []) as AsyncIterable<Answer>) {
          // Parts that were under way when another answer was asked for belong to nobody.
          if (running.current !== mine || mine.signal.aborted) break;
          setText((before) => before + (choices[0]?.text ?? choices[0]?.delta?.content ?? ""));
        }
      } catch (failure) {
        if (running.current === mine && !mine.signal.aborted) setError(failure as Error);
      } finally {
        if (running.current === mine) setIsRunning(false);
      }
    },
    [client, kind],
  );
  return { text, isRunning, error, run, stop };
}
