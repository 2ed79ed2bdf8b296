/**
 * The service worker: the page's own files are kept, all of one build together, so that it works offline.
 * A new build waits until no tab has the old one: a page never gets files of two builds.
 * Models are not its business: they are kept chunk by chunk, each one checked (src/download).
 */

/** What the build puts in: the digest of the files, and their names. */
declare const BUILD: string;
declare const FILES: readonly string[];

interface Waiting extends Event {
  waitUntil(work: Promise<unknown>): void;
}
interface Asked extends Waiting {
  readonly request: Request;
  respondWith(answer: Promise<Response>): void;
}
interface Scope {
  readonly registration: { readonly scope: string };
  readonly clients: { claim(): Promise<void> };
  addEventListener(kind: "install" | "activate", run: (event: Waiting) => void): void;
  addEventListener(kind: "fetch", run: (event: Asked) => void): void;
}

const scope = globalThis as unknown as Scope;
const PREFIX = "sevenfold-page-";
const NAME = `${PREFIX}${BUILD}`;

scope.addEventListener("install", (event) => {
  const keep = async (): Promise<void> => {
    const cache = await caches.open(NAME);
    // Past the HTTP cache: a stale file beside new ones would break the page.
    await cache.addAll(FILES.map((name) => new Request(name, { cache: "reload" })));
  };
  event.waitUntil(keep());
});

scope.addEventListener("activate", (event) => {
  const renew = async (): Promise<void> => {
    for (const name of await caches.keys())
      if (name.startsWith(PREFIX) && name !== NAME) await caches.delete(name);
    await scope.clients.claim();
  };
  event.waitUntil(renew());
});

scope.addEventListener("fetch", (event) => {
  const { request } = event;
  const url = new URL(request.url);
  const path = url.href.startsWith(scope.registration.scope)
    ? url.pathname.slice(new URL(scope.registration.scope).pathname.length)
    : null;
  if (request.method !== "GET" || path === null || !FILES.includes(path === "" ? "./" : path)) return;
  const answer = async (): Promise<Response> => {
    const cache = await caches.open(NAME);
    return (await cache.match(request, { ignoreSearch: true })) ?? fetch(request);
  };
  event.respondWith(answer());
});
