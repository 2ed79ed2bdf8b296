/** Small helpers for the page: elements by id, elements that are made, and numbers as people write them. */

export function byId<T extends HTMLElement>(id: string): T {
  const found = document.getElementById(id);
  if (!found) throw new Error(`the page has no element ${id}`);
  return found as T;
}

type Child = Node | string;

/** An element with a class and children. Text never becomes markup. */
export function make<K extends keyof HTMLElementTagNameMap>(
  tag: K,
  className = "",
  ...children: readonly Child[]
): HTMLElementTagNameMap[K] {
  const element = document.createElement(tag);
  if (className) element.className = className;
  element.append(...children);
  return element;
}

/** The terms and descriptions of a `dl`. Each pair is in a `div` where `isBoxed`. */
export function describe(
  list: HTMLElement,
  pairs: readonly (readonly [string, Child])[],
  isBoxed = false,
): void {
  list.replaceChildren(
    ...pairs.flatMap(([term, value]) => {
      const both = [make("dt", "", term), make("dd", "", value)];
      return isBoxed ? [make("div", "", ...both)] : both;
    }),
  );
}

export const count = (n: number): string => n.toLocaleString("en-GB");

/** Bytes as kB or MB, three digits. */
export function bytes(n: number): string {
  const [scaled, unit] = n < 1e6 ? [n / 1e3, "kB"] : n < 1e9 ? [n / 1e6, "MB"] : [n / 1e9, "GB"];
  return `${scaled.toPrecision(3)} ${unit}`;
}

/** What a caught error says. */
export const reasonOf = (error: unknown): string => (error instanceof Error ? error.message : String(error));
