// What is measured of our engine, in a worker of a page and in Node.js. Milliseconds.
export class Bench {
  constructor(engine) {
    this.engine = engine;
  }

  /** A prompt, until its last logits are there. */
  prefill(ids) {
    const session = this.engine.session();
    const begin = performance.now();
    session.forward(ids, 1);
    const spent = performance.now() - begin;
    session.close();
    return spent;
  }

  /** Greedy tokens behind a prompt, one call for each; the prompt's time is not in it. */
  decode(ids, n) {
    const session = this.engine.session();
    let [token] = session.generate(ids, 1, []);
    const begin = performance.now();
    for (let i = 0; i < n; ++i) [token] = session.generate([token], 1, []);
    const spent = performance.now() - begin;
    session.close();
    return spent;
  }
}
