// Messages to the user.

import { jupyter } from './shared.js';

const { Notification } = jupyter.apputils;

/** Show why an action failed, until the user closes it: without `autoClose` JupyterLab shows nothing. */
export function showError(reason) {
  Notification.error(String(reason?.message ?? reason), { autoClose: false });
}

/** Show a hint for some seconds. */
export function showHint(text) {
  Notification.info(text, { autoClose: 8000 });
}
