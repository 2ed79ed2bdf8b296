// Search without a server: browsers start no worker for a page that was opened from a file. There this
// class runs the script of a worker in a hidden frame. It has what the search of the theme uses.
"use strict";

if (location.protocol === "file:") {
  window.Worker = class extends EventTarget {
    #frame = document.createElement("iframe");
    #isReady;

    constructor(url) {
      super();
      this.#frame.hidden = true;
      document.body.append(this.#frame);
      const inside = this.#frame.contentWindow;
      inside.postMessage = (data) => this.dispatchEvent(new MessageEvent("message", { data }));
      inside.importScripts = async (...urls) => {
        for (const one of urls) await this.#load(one);
      };
      this.#isReady = this.#load(url);
    }

    postMessage(data) {
      const event = new MessageEvent("message", { data });
      this.#isReady.then(() => this.#frame.contentWindow.dispatchEvent(event));
    }

    terminate() {
      this.#frame.remove();
    }

    #load(url) {
      const page = this.#frame.contentDocument;
      const script = page.createElement("script");
      script.src = new URL(url, location.href).href;
      return new Promise((resolve, reject) => {
        script.onload = resolve;
        script.onerror = reject;
        page.head.append(script);
      });
    }
  };
  // The search asks for this name to find its languages.
  window.IFrameWorker = window.Worker;
}
