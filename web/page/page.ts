/** The page: it opens a model in a worker, shows its proof, and lets people ask it. */

import { type Opened, type Progress, WorkerClient, type WorkerOpen } from "../src/index.ts";
import { ChunkMap } from "./chunks.ts";
import { bytes, byId, reasonOf } from "./dom.ts";
import { type Offer, showOffers } from "./models.ts";
import { Playground } from "./playground.ts";
import { showProof } from "./proof.ts";

let client: WorkerClient | null = null;
let opening: AbortController | null = null;
const chunks = new ChunkMap(byId<HTMLCanvasElement>("chunks"));

const playground = new Playground(
  () => client,
  async () => {
    const opened = await client!.info();
    showProof(opened);
    return opened.info.engine === "webgpu" ? "WebGPU" : "WebAssembly";
  },
);

function told(name: string, progress: Progress): void {
  byId<HTMLProgressElement>("progress").value = progress.n_done / progress.n_bytes;
  byId("state").textContent =
    `${name}: ${bytes(progress.n_done)} of ${bytes(progress.n_bytes)} checked, ${progress.n_chunks} chunks`;
  chunks.told(progress);
}

function show(opened: Opened): void {
  showProof(opened);
  playground.reset(opened.info.can_infill);
  byId("opened").hidden = false;
  byId("state").textContent =
    `${opened.info.recipe || "The model"} is open, and every byte of it was checked.`;
  byId("playground").focus();
}

async function open(name: string, asked: WorkerOpen): Promise<void> {
  opening?.abort();
  const mine = (opening = new AbortController());
  byId("failure").textContent = "";
  byId("loading").hidden = false;
  byId("opened").hidden = true;
  byId("cancel").hidden = false;
  byId("state").textContent = `${name}: asking for its seal`;
  chunks.begin();
  // A worker of its own for each model: what the last one held is gone with it.
  client?.end();
  const made = (client = new WorkerClient(
    new Worker(new URL("./worker.js", import.meta.url), { type: "module" }),
  ));
  try {
    const opened = await made.open({
      ...asked,
      signal: mine.signal,
      onProgress: (progress) => told(name, progress),
    });
    if (client === made) show(opened);
  } catch (error) {
    if (client !== made) return;
    byId("loading").hidden = true;
    byId("failure").textContent = mine.signal.aborted
      ? "Cancelled. What was checked is kept."
      : reasonOf(error);
  } finally {
    if (client === made) byId("cancel").hidden = true;
    await refresh();
  }
}

function choose(offer: Offer): void {
  void open(offer.name, { url: offer.url, root: offer.root });
}

function take(file: File | undefined): void {
  if (file) void open(file.name, { file });
}

const refresh = (): Promise<Offer[]> => showOffers(byId("models"), choose);

function wireFiles(): void {
  const drop = byId("drop");
  const input = byId<HTMLInputElement>("file");
  input.addEventListener("change", () => {
    take(input.files?.[0]);
    input.value = "";
  });
  // A file that misses the box by a little must not replace the page.
  for (const kind of ["dragenter", "dragover"])
    document.addEventListener(kind, (event) => {
      event.preventDefault();
      drop.classList.add("over");
    });
  document.addEventListener("dragleave", () => drop.classList.remove("over"));
  document.addEventListener("drop", (event) => {
    event.preventDefault();
    drop.classList.remove("over");
    take(event.dataTransfer?.files[0]);
  });
}

async function checkReceipt(): Promise<void> {
  const verdict = byId("receipt-verdict");
  verdict.className = "";
  verdict.textContent = "Computing the answer again.";
  try {
    const found = await client!.verifyReceipt(byId<HTMLTextAreaElement>("receipt").value);
    verdict.className = found.word === "ACCEPT" ? "good" : "bad";
    verdict.textContent = `${found.word}: ${found.why || "same tokens, same logits"} (${found.isSigned ? "signed" : "not signed"}).`;
  } catch (error) {
    verdict.className = "bad";
    verdict.textContent = reasonOf(error);
  }
}

async function workOffline(): Promise<void> {
  if (!("serviceWorker" in navigator)) return;
  try {
    await navigator.serviceWorker.register(new URL("./service.js", import.meta.url));
    await navigator.serviceWorker.ready;
    byId("offline").textContent = "This page works offline from now on.";
  } catch {
    // Private windows refuse service workers; the page works without one.
  }
}

wireFiles();
byId("cancel").addEventListener("click", () => opening?.abort());
byId("check").addEventListener("click", () => void checkReceipt());
void refresh();
void workOffline();
