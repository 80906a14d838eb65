// Running a cell in the background without editing it.

import { showHint } from './messages.js';
import { jupyter } from './shared.js';

const { Dialog, showDialog, SessionContextDialogs } = jupyter.apputils;
const { CodeCell } = jupyter.cells;

const LOAD = 'get_ipython().extension_manager.load_extension("nbtasks")';
const NOT_INSTALLED =
  "nbtasks is not installed in the environment of this notebook's kernel: run  %pip install PATH  with the path of a clone of nbtasks, and try again.\n";

/** Run the active cell as if `%%bgtask` stood above it, followed by `options`. */
export async function runInBackground(tasks, options = '') {
  const { panel, context } = tasks;
  const cell = panel.content.activeCell;
  const source = cell.model.sharedModel.getSource();
  const own = /^\s*%%bgtask\b/.test(source);
  if (own && options) {
    showHint('This cell has options of its own, in its line %%bgtask: change them there.');
    return;
  }
  if (!(await hasKernel(context))) {
    return;
  }
  // The kernel runs requests in the order in which they are sent, so other cells may follow at once.
  const loading = tasks.isLoaded ? Promise.resolve('') : loadExtension(context.session.kernel);
  const code = own || !source.trim() ? source : `%%bgtask${options && ` ${options}`}\n${source}`;
  const deletedCells = panel.content.model.deletedCells;
  const reply = CodeCell.execute(withSource(cell, code), context, {
    deletedCells,
    recordTiming: panel.content.notebookConfig.recordTiming
  });
  const failure = await loading;
  if ((await ended(reply)) && !failure) {
    deletedCells.splice(0, deletedCells.length);
  }
  if (failure && !cell.isDisposed) {
    // In place of the error that there is no such magic.
    cell.outputArea.model.clear();
    cell.outputArea.model.add({ output_type: 'stream', name: 'stderr', text: failure });
  }
}

/** Start a kernel if there is none, as the Run button does; whether there is one that takes requests. */
async function hasKernel(context) {
  if (context.isTerminating || context.pendingInput) {
    const [title, body] = context.isTerminating
      ? ['Kernel Terminating', 'The kernel is shutting down. No cell can be run now.']
      : ['Cell Not Run', 'The kernel waits for input: type it in the input box, press Enter, and try again.'];
    await showDialog({ title, body, buttons: [Dialog.okButton()] });
    return false;
  }
  if (context.hasNoKernel) {
    const choose = await context.startKernel();
    if (choose) {
      await new SessionContextDialogs().selectKernel(context);
    }
  }
  return !context.hasNoKernel;
}

/** Load nbtasks in the kernel without a trace in the notebook; resolves to why that failed, or to ''. */
async function loadExtension(kernel) {
  const request = kernel.requestExecute({
    code: '',
    silent: true,
    store_history: false,
    allow_stdin: false,
    stop_on_error: false,
    user_expressions: { load: LOAD }
  });
  let reply;
  try {
    reply = await request.done;
  } catch {
    return ''; // cancelled by a restart, like the cell itself
  }
  const result = reply?.content.user_expressions?.load;
  if (result?.status !== 'error') {
    return '';
  }
  const missing = result.ename === 'ModuleNotFoundError' && result.evalue.includes("'nbtasks'");
  return missing ? NOT_INSTALLED : `nbtasks could not be loaded: ${result.ename}: ${result.evalue}\n`;
}

/** Whether the reply has come: it does not after a restart. */
async function ended(reply) {
  try {
    await reply;
    return true;
  } catch (reason) {
    if (String(reason?.message).startsWith('Canceled')) {
      return false;
    }
    throw reason;
  }
}

/** The cell, seen with another source. The cell itself keeps its own: what is saved and shown does not change. */
function withSource(cell, source) {
  const sharedModel = overlay(cell.model.sharedModel, { getSource: () => source });
  return overlay(cell, { model: overlay(cell.model, { sharedModel }) });
}

function overlay(target, values) {
  return new Proxy(target, {
    get(_, key) {
      if (Object.hasOwn(values, key)) {
        return values[key];
      }
      const value = Reflect.get(target, key, target);
      return typeof value === 'function' ? value.bind(target) : value;
    },
    set(_, key, value) {
      return Reflect.set(target, key, value, target);
    }
  });
}
