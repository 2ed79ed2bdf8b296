/** Gives the event loop a turn, so that a cancelled answer ends and a page stays alive. */

const immediate = (globalThis as { setImmediate?: (run: () => void) => void }).setImmediate;

/** Resolves after other events were handled. Timers of a page wait 4 ms, a message does not. */
export function tick(): Promise<void> {
  if (immediate) return new Promise((resolve) => immediate(resolve));
  return new Promise((resolve) => {
    const { port1, port2 } = new MessageChannel();
    port1.onmessage = () => {
      port1.close();
      resolve();
    };
    port2.postMessage(null);
  });
}
