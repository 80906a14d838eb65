// `OpenNotebooks`: the tasks of all open notebooks.

import { jupyter } from './shared.js';
import { NotebookTasks } from './notebook_tasks.js';

const { Signal } = jupyter.signaling;

export class OpenNotebooks {
  /** Emitted with the notebook whose tasks have changed, or which was opened or closed. */
  changed = new Signal(this);

  #byPanel = new Map();

  constructor(tracker) {
    this.tracker = tracker;
    tracker.forEach(panel => this.#add(panel));
    tracker.widgetAdded.connect((_, panel) => this.#add(panel));
  }

  /** The tasks of the notebook in this panel, if it is open. */
  of(panel) {
    return this.#byPanel.get(panel);
  }

  [Symbol.iterator]() {
    return this.#byPanel.values();
  }

  #add(panel) {
    if (this.#byPanel.has(panel)) {
      return;
    }
    const tasks = new NotebookTasks(panel);
    this.#byPanel.set(panel, tasks);
    tasks.changed.connect(() => this.changed.emit(tasks));
    panel.sessionContext.kernelChanged.connect(() => this.changed.emit(tasks));
    panel.disposed.connect(() => {
      this.#byPanel.delete(panel);
      this.changed.emit(tasks);
    });
    this.changed.emit(tasks);
  }
}
