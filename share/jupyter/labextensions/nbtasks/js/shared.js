// The modules of JupyterLab and Lumino that the extension uses, from the scope that JupyterLab shares.

const NAMES = {
  apputils: '@jupyterlab/apputils',
  cells: '@jupyterlab/cells',
  notebook: '@jupyterlab/notebook',
  services: '@jupyterlab/services',
  settingregistry: '@jupyterlab/settingregistry',
  statusbar: '@jupyterlab/statusbar',
  uiComponents: '@jupyterlab/ui-components',
  signaling: '@lumino/signaling',
  widgets: '@lumino/widgets'
};

/** The modules by the keys of NAMES; complete before any other file of the extension is imported. */
export const jupyter = {};

/** Take the modules out of the shared scope of JupyterLab. */
export async function load(scope) {
  await Promise.all(
    Object.entries(NAMES).map(async ([key, name]) => {
      const versions = Object.values(scope[name] ?? {});
      if (!versions.length) {
        throw new Error(`nbtasks: this version of JupyterLab does not share ${name}`);
      }
      const factory = await versions[0].get();
      jupyter[key] = factory();
    })
  );
}
