// A page for one engine: bench.html?engine=NAME gives its functions to the driver as `engine`. With
// cold=SHAPE it opens that model and says when the first token was there, from the start of the page on.
const asked = new URLSearchParams(location.search);
const engine = await import(`./${asked.get("engine")}.js`);
globalThis.engine = engine;
const shape = asked.get("cold");
if (shape !== null) {
  await engine.first(shape, Number(asked.get("threads")));
  globalThis.first = performance.now();
}
