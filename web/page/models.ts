/** The models that a page offers: those of its site, and those that are kept on the device. */

import { keptModels, OpfsStore } from "../src/index.ts";
import { bytes, make } from "./dom.ts";

/** One model, and where its bytes are. `url` is empty for one that is only kept. */
export interface Offer {
  readonly name: string;
  readonly summary: string;
  readonly licence: string;
  readonly root: string;
  readonly n_bytes: number;
  readonly url: string;
  readonly isKept: boolean;
}

const text = (value: unknown): string => (typeof value === "string" ? value : "");

function listed(value: unknown): Offer[] {
  const models = (value as { models?: unknown } | null)?.models;
  if (!Array.isArray(models)) return [];
  return models.map((entry: Record<string, unknown>) => ({
    name: text(entry["name"]),
    summary: text(entry["summary"]),
    licence: text(entry["licence"]),
    root: text(entry["root"]),
    n_bytes: Number(entry["n_bytes"]) || 0,
    url: new URL(`models/${encodeURIComponent(text(entry["file"]))}`, document.baseURI).href,
    isKept: false,
  }));
}

/** The models of the site, then what else is kept. A site without a list has none. */
export async function offers(): Promise<Offer[]> {
  const answer = await fetch("models/index.json").catch(() => null);
  const site = answer?.ok ? listed(await answer.json().catch(() => null)) : [];
  const kept = await keptModels().catch(() => []);
  const roots = new Set(kept.map((model) => model.root));
  const known = new Set(site.map((model) => model.root));
  const others = kept
    .filter((model) => !known.has(model.root))
    .map((model) => ({
      name: model.root.slice(0, 16),
      summary: "A file of your own.",
      licence: "",
      root: model.root,
      n_bytes: model.n_bytes,
      url: "",
      isKept: true,
    }));
  return [...site.map((model) => ({ ...model, isKept: roots.has(model.root) })), ...others];
}

function card(offer: Offer, open: (offer: Offer) => void, changed: () => void): HTMLElement {
  const button = make("button", "", "Open");
  button.type = "button";
  button.setAttribute("aria-label", `Open ${offer.name}`);
  button.addEventListener("click", () => open(offer));
  const facts = [bytes(offer.n_bytes), offer.licence, offer.isKept ? "on this device" : ""];
  const what = make(
    "div",
    "what",
    make("strong", "", offer.name),
    make("p", "note", [offer.summary, facts.filter(Boolean).join(", ")].filter(Boolean).join(" ")),
    make("p", "note mono", offer.root),
  );
  const actions = make("div", "actions", button);
  if (offer.isKept) {
    const remove = make("button", "quiet", "Remove");
    remove.type = "button";
    remove.setAttribute("aria-label", `Remove ${offer.name} from this device`);
    remove.addEventListener("click", () => void new OpfsStore().remove(offer.root).then(changed));
    actions.append(remove);
  }
  return make("li", "", what, actions);
}

/** Show the models in a list. */
export async function showOffers(list: HTMLElement, open: (offer: Offer) => void): Promise<Offer[]> {
  const found = await offers();
  list.replaceChildren(...found.map((offer) => card(offer, open, () => void showOffers(list, open))));
  return found;
}
