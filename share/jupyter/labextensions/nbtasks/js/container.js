// The container that JupyterLab loads, as the module federation of webpack would have built it. The extension itself is
// ES modules, which are imported when JupyterLab starts its plugins.
//
// These files are not below a folder `static`: the server lets browsers keep those for a year, whatever they are called.
(() => {
  'use strict';
  const here = document.currentScript.src;
  let scope = null;
  const modules = { './extension': 'extension.js' };

  (window._JUPYTERLAB ??= {}).nbtasks = {
    init(shared) {
      scope = shared;
    },
    async get(name) {
      if (!(name in modules)) {
        throw new Error(`nbtasks has no module ${name}`);
      }
      const { load } = await import(new URL('shared.js', here));
      await load(scope);
      const module = await import(new URL(modules[name], here));
      return () => ({ __esModule: true, default: module.default });
    }
  };
})();
