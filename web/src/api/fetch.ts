/** HTTP without a network: what a client of OpenAI sends to a server is answered by a model in this page. */

import { GateError, SevenfoldError, UsageError } from "../core/errors.ts";
import type { Answer } from "./answer.ts";
import { RequestError } from "./fields.ts";
import type { Kind } from "./request.ts";

/** A request's body in OpenAI's shape. Fields that are not known are named in `warnings`. */
export type Body = Readonly<Record<string, unknown>>;

export interface RequestOptions {
  readonly signal?: AbortSignal | undefined;
}

/** A model here, or in a worker. */
export interface Transport {
  /** How answers name the model. */
  readonly name: string;
  readonly root: string;
  create(kind: Kind, body: Body, options?: RequestOptions): Promise<Answer | AsyncGenerator<Answer>>;
  /** The model as /v1/models lists it. */
  card(): object;
}

export type FetchLike = (input: string | URL | Request, init?: RequestInit) => Promise<Response>;

const TYPES: Readonly<Record<number, string>> = {
  400: "invalid_request_error",
  404: "not_found_error",
  405: "invalid_request_error",
  501: "not_supported_error",
};
const ROUTES: Readonly<Record<string, Kind>> = { "/completions": "completion", "/chat/completions": "chat" };

function statusOf(error: unknown): number {
  if (error instanceof RequestError) return error.status;
  // Errors of a worker have lost their class, not their name.
  const name = error instanceof Error ? error.name : "";
  const isOfUser = error instanceof UsageError || error instanceof GateError || name === "RequestError";
  return isOfUser ? 400 : 500;
}

function errorBody(error: unknown): object {
  const code = statusOf(error);
  const where = error instanceof SevenfoldError ? error.where : "";
  const message = error instanceof Error ? error.message : String(error);
  return { error: { message, type: TYPES[code] ?? "server_error", param: where || null, code } };
}

function json(value: object, status: number, root: string): Response {
  const headers = { "content-type": "application/json", "x-s7-root": root, "x-should-retry": "false" };
  return new Response(JSON.stringify(value), { status, headers });
}

function stream(answers: AsyncGenerator<Answer>, root: string): Response {
  const encoder = new TextEncoder();
  const event = (value: unknown): Uint8Array => encoder.encode(`data: ${JSON.stringify(value)}\n\n`);
  const body = new ReadableStream<Uint8Array>({
    async pull(controller) {
      try {
        const next = await answers.next();
        if (!next.done) return controller.enqueue(event(next.value));
        controller.enqueue(encoder.encode("data: [DONE]\n\n"));
      } catch (error) {
        controller.enqueue(event(errorBody(error)));
      }
      controller.close();
    },
    // The reader went away: the generation ends within one step.
    async cancel() {
      await answers.return(undefined);
    },
  });
  return new Response(body, { headers: { "content-type": "text/event-stream", "x-s7-root": root } });
}

async function bodyOf(input: string | URL | Request, init: RequestInit): Promise<Body> {
  const isWhole = init.body === undefined && input instanceof Request;
  const text = isWhole ? await input.text() : await new Response(init.body ?? "").text();
  try {
    return JSON.parse(text) as Body;
  } catch {
    throw new RequestError("the body is not JSON", "body", "send a JSON object");
  }
}

async function route(
  transport: Transport,
  path: string,
  method: string,
  body: () => Promise<Body>,
  signal: AbortSignal | undefined,
): Promise<Response> {
  if (path === "/models" && method === "GET")
    return json({ object: "list", data: [transport.card()] }, 200, transport.root);
  const kind = Object.hasOwn(ROUTES, path) ? ROUTES[path] : undefined;
  if (!kind) throw new RequestError(`no route ${path.slice(0, 80)}`, "url", "ask /v1/models", 404);
  if (method !== "POST") throw new RequestError(`${method} ${path}`, "method", "use POST", 405);
  const answer = await transport.create(kind, await body(), { signal });
  return Symbol.asyncIterator in answer ? stream(answer, transport.root) : json(answer, 200, transport.root);
}

/** A `fetch` that answers /v1/models, /v1/completions and /v1/chat/completions. */
export function fetchOver(transport: Transport): FetchLike {
  return async (input, init = {}) => {
    const request = input instanceof Request ? input : null;
    const url = new URL(request ? request.url : String(input), "http://localhost");
    const method = init.method ?? request?.method ?? "GET";
    const signal = init.signal ?? request?.signal ?? undefined;
    try {
      return await route(
        transport,
        url.pathname.replace(/^\/v1/, ""),
        method,
        () => bodyOf(input, init),
        signal,
      );
    } catch (error) {
      signal?.throwIfAborted();
      return json(errorBody(error), statusOf(error), transport.root);
    }
  };
}
