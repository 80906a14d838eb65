// The sidebar: the tasks of all open notebooks.

import { showError } from './messages.js';
import { jupyter } from './shared.js';
import { stateIcons, tasksIcon } from './icons.js';
import { showTask } from './show.js';

const { stopIcon } = jupyter.uiComponents;
const { Widget } = jupyter.widgets;

const EMPTY = 'No background tasks. Choose “Run in Background” in the toolbar of a notebook, or begin a cell with %%bgtask.';

export class Sidebar extends Widget {
  constructor(app, notebooks, seen) {
    super();
    this.id = 'nbtasks-sidebar';
    this.addClass('nbtasks-Sidebar');
    this.title.icon = tasksIcon;
    this.title.caption = 'Background Tasks';
    this.node.setAttribute('role', 'region');
    this.node.setAttribute('aria-label', 'Background Tasks');
    this.#app = app;
    this.#notebooks = notebooks;
    this.#seen = seen;
    this.#empty = element('p', 'nbtasks-Sidebar-empty', EMPTY);
    this.node.append(element('h2', 'nbtasks-Sidebar-heading', 'Background Tasks'), this.#empty);
    notebooks.changed.connect(() => this.update());
    this.update();
  }

  #app;
  #notebooks;
  #seen;
  #empty;
  #sections = new Map();

  onBeforeShow() {
    this.update();
  }

  onUpdateRequest() {
    const shown = [...this.#notebooks].filter(tasks => tasks.tasks.length);
    this.#empty.hidden = shown.length > 0;
    for (const [tasks, section] of this.#sections) {
      if (!shown.includes(tasks)) {
        section.node.remove();
        this.#sections.delete(tasks);
      }
    }
    for (const tasks of shown) {
      if (!this.#sections.has(tasks)) {
        const section = new Section(tasks, task => showTask(this.#app, this.#seen, tasks, task));
        this.#sections.set(tasks, section);
        this.node.append(section.node);
      }
      this.#sections.get(tasks).update();
    }
  }
}

/** The tasks of one notebook. Rows are kept, so that the focus is. */
class Section {
  #rows = new Map();

  constructor(tasks, show) {
    this.tasks = tasks;
    this.show = show;
    this.node = element('section', 'nbtasks-Section');
    this.heading = element('h3', 'nbtasks-Section-heading');
    this.list = element('ul', 'nbtasks-Section-list');
    this.list.setAttribute('role', 'list');
    this.more = element('p', 'nbtasks-Section-more');
    this.node.append(this.heading, this.list, this.more);
  }

  update() {
    const { tasks } = this;
    this.heading.textContent = tasks.name;
    this.heading.title = tasks.context.path;
    const ids = new Set(tasks.tasks.map(task => task.id));
    for (const [id, row] of this.#rows) {
      if (!ids.has(id)) {
        row.node.remove();
        this.#rows.delete(id);
      }
    }
    tasks.tasks.forEach((task, position) => {
      if (!this.#rows.has(task.id)) {
        this.#rows.set(task.id, new Row(this));
      }
      const row = this.#rows.get(task.id);
      row.update(task);
      if (this.list.children[position] !== row.node) {
        this.list.insertBefore(row.node, this.list.children[position] ?? null);
      }
    });
    const leftOut = tasks.state?.left_out ?? 0;
    this.more.hidden = !leftOut;
    this.more.textContent = `and ${leftOut.toLocaleString()} more`;
  }

  async ask(action, task) {
    try {
      await this.tasks.ask(action, { task: task.id });
    } catch (reason) {
      showError(reason);
    }
  }
}

class Row {
  #task = null;
  #icon = null;

  constructor(section) {
    this.node = element('li', 'nbtasks-Row');
    this.icon = element('span', 'nbtasks-Row-icon');
    this.title = element('button', 'nbtasks-Row-title');
    this.title.type = 'button';
    this.status = element('span', 'nbtasks-Row-status');
    this.pause = iconButton();
    this.cancel = iconButton(stopIcon);
    this.bar = element('div', 'nbtasks-Row-bar');
    this.bar.setAttribute('role', 'progressbar');
    this.fill = element('div', 'nbtasks-Row-fill');
    this.bar.append(this.fill);
    this.figures = element('div', 'nbtasks-Row-figures');
    this.note = element('div', 'nbtasks-Row-note');
    const head = element('div', 'nbtasks-Row-head');
    head.append(this.icon, this.title, this.status, this.pause, this.cancel);
    this.node.append(head, this.bar, this.figures, this.note);
    this.title.addEventListener('click', () => section.show(this.#task));
    this.cancel.addEventListener('click', () => section.ask('cancel', this.#task));
    this.pause.addEventListener('click', () => section.ask(this.#isPaused ? 'resume' : 'pause', this.#task));
  }

  get #isPaused() {
    return this.#task.state === 'paused' || this.#task.state === 'ended';
  }

  update(task) {
    this.#task = task;
    const isRunning = task.state === 'running' || task.state === 'cancelling';
    this.node.dataset.state = task.state;
    this.#setIcon(stateIcons[task.state] ?? stateIcons.pending);
    setText(this.title, task.title);
    this.title.title = `Go to the cell of “${task.title}”`;
    setText(this.status, task.status);
    this.cancel.hidden = !isRunning && task.state !== 'pending';
    this.cancel.disabled = task.state === 'cancelling';
    name(this.cancel, `Cancel ${task.title}`, 'Cancel');
    this.pause.hidden = task.kind !== 'schedule' || task.state === 'removed';
    if (!this.pause.hidden) {
      const icon = this.#isPaused ? stateIcons.running : stateIcons.paused;
      this.pause.replaceChildren(icon.element({ tag: 'span', className: 'nbtasks-icon' }));
      const verb = this.#isPaused ? 'Resume' : 'Pause';
      name(this.pause, `${verb} ${task.title}`, verb);
    }
    this.bar.hidden = !isRunning;
    this.bar.classList.toggle('nbtasks-mod-unknown', task.progress === null);
    this.bar.setAttribute('aria-label', task.title);
    if (task.progress === null) {
      this.bar.removeAttribute('aria-valuenow');
      this.fill.style.width = '';
    } else {
      this.bar.setAttribute('aria-valuenow', Math.floor(task.progress));
      this.fill.style.width = `${task.progress}%`;
    }
    setText(this.figures, task.figures);
    setText(this.note, task.note);
    this.note.title = task.note;
  }

  #setIcon(icon) {
    if (this.#icon !== icon) {
      this.#icon = icon;
      this.icon.replaceChildren(icon.element({ tag: 'span', className: 'nbtasks-icon' }));
    }
  }
}

function iconButton(icon) {
  const button = element('button', 'nbtasks-Row-button');
  button.type = 'button';
  if (icon) {
    button.append(icon.element({ tag: 'span', className: 'nbtasks-icon' }));
  }
  return button;
}

function name(button, label, title) {
  button.title = title;
  button.setAttribute('aria-label', label);
}

function setText(node, text) {
  if (node.textContent !== text) {
    node.textContent = text;
  }
  node.hidden = !text;
}

function element(tag, className, text = '') {
  return Object.assign(document.createElement(tag), { className, textContent: text });
}
