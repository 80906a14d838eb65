// Going to the cell of a task, and which failures the user has seen.

import { showHint } from './messages.js';
import { jupyter } from './shared.js';

const { Signal } = jupyter.signaling;

const STORE = 'nbtasks:seen-failures';
const MOST_KEPT = 500;

/** The failed tasks that the user has gone to, in this browser, also after the page is loaded again. */
export class SeenFailures {
  changed = new Signal(this);
  #ids;

  constructor() {
    this.#ids = new Set(stored());
  }

  add(task) {
    if (task.state !== 'failed' || this.#ids.has(task.id)) {
      return;
    }
    this.#ids.add(task.id);
    this.#ids = new Set([...this.#ids].slice(-MOST_KEPT));
    localStorage.setItem(STORE, JSON.stringify([...this.#ids]));
    this.changed.emit();
  }

  /** The failed tasks of a notebook that were not seen, the newest first; not those whose cell was run again. */
  unseen(tasks) {
    const newer = task => other => other.cell_id === task.cell_id && other.created_at > task.created_at;
    return tasks.tasks.filter(
      task =>
        task.state === 'failed' &&
        !this.#ids.has(task.id) &&
        !(task.cell_id !== null && tasks.tasks.some(newer(task)))
    );
  }
}

function stored() {
  try {
    const ids = JSON.parse(localStorage.getItem(STORE) ?? '[]');
    return Array.isArray(ids) ? ids : [];
  } catch (reason) {
    console.warn('nbtasks: the list of seen failures could not be read', reason);
    return [];
  }
}

/** Bring the notebook to the front and go to the cell of the task. */
export async function showTask(app, seen, tasks, task) {
  seen.add(task);
  const { panel } = tasks;
  app.shell.activateById(panel.id);
  const cell = tasks.cellOf(task);
  if (!cell) {
    const why = task.cell_id === null ? 'was not started by a cell' : 'was started by a cell that is no longer there';
    showHint(`“${task.title}” ${why}.`);
    return;
  }
  const notebook = panel.content;
  notebook.deselectAll();
  notebook.activeCellIndex = notebook.widgets.indexOf(cell);
  notebook.mode = 'command';
  notebook.activate();
  await notebook.scrollToItem(notebook.activeCellIndex, 'smart');
}
