"use strict";
/* Data scripts: jaxle.load("layers/0") resolves to what data/layers/0.js hands to jaxle.receive.

   A page opened from file:// may add scripts and may not fetch. The folder of a script tells whose
   it is, so that two reports can be open side by side: jaxle.load("run", "other/"). */

const jaxle = (() => {
  const asked = new Map(); // address → {promise, resolve}

  const address = (name, folder) => new URL(`${folder}data/${name}.js`, document.baseURI).href;

  function load(name, folder = "") {
    const from = address(name, folder);
    if (!asked.has(from)) {
      const entry = {};
      entry.promise = new Promise((resolve, reject) => {
        entry.resolve = resolve;
        const script = document.createElement("script");
        script.src = from;
        script.onload = () => script.remove();
        script.onerror = () => {
          asked.delete(from);
          reject(new Error(`The file data/${name}.js of this report is missing.`));
        };
        document.head.append(script);
      });
      asked.set(from, entry);
    }
    return asked.get(from).promise;
  }

  function receive(name, value) {
    const entry = asked.get(document.currentScript.src);
    if (entry) entry.resolve(value);
  }

  return { load, receive };
})();
