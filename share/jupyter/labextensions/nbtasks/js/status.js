// The status item: what runs in the notebook in front.

import { jupyter } from './shared.js';
import { stateIcons } from './icons.js';
import { showTask } from './show.js';

const { Widget } = jupyter.widgets;

/** The time left in words, for a glance: "40 s left", "2 min left", "1 h 5 min left". */
export function timeLeft(seconds) {
  if (seconds < 60) {
    return `${Math.max(1, seconds)} s left`;
  }
  const minutes = Math.round(seconds / 60);
  return minutes < 60 ? `${minutes} min left` : `${Math.floor(minutes / 60)} h ${minutes % 60} min left`;
}

/** "2 running · fit 64% · 2 min left"; empty if nothing is running or pending. */
export function summary(tasks) {
  const running = tasks.running;
  const pending = tasks.tasks.filter(task => task.state === 'pending').length + (tasks.state?.left_out ?? 0);
  if (!running.length) {
    return pending ? `${pending} pending` : '';
  }
  const lead = leading(running);
  return [
    `${running.length} running`,
    leadText(running),
    lead.seconds_left === null ? '' : timeLeft(lead.seconds_left)
  ]
    .filter(Boolean)
    .join(' · ');
}

/** The running task that is named, with its progress: "fit 64%". */
export function leadText(running) {
  const lead = leading(running);
  return `${shortened(lead.title)}${lead.progress === null ? '' : ` ${Math.floor(lead.progress)}%`}`;
}

/** The running task that the summary names: the first whose progress is known. */
function leading(running) {
  return running.find(task => task.progress !== null) ?? running[0];
}

function shortened(text) {
  return text.length <= 24 ? text : `${text.slice(0, 23)}…`;
}

export class StatusItem extends Widget {
  constructor(app, tracker, notebooks, seen) {
    super();
    this.addClass('nbtasks-Status');
    this.hide();
    this.#app = app;
    this.#tracker = tracker;
    this.#notebooks = notebooks;
    this.#seen = seen;
    this.#running = button('nbtasks-Status-running', stateIcons.running);
    this.#failed = button('nbtasks-Status-failed', stateIcons.failed);
    this.node.append(this.#running.node, this.#failed.node);
    this.#running.node.addEventListener('click', () => this.#show(tasks => leading(tasks.running)));
    this.#failed.node.addEventListener('click', () => this.#show(tasks => this.#seen.unseen(tasks)[0]));
    const update = () => this.update();
    notebooks.changed.connect(update);
    tracker.currentChanged.connect(update);
    seen.changed.connect(update);
    this.update();
  }

  #app;
  #tracker;
  #notebooks;
  #seen;
  #running;
  #failed;

  get #tasks() {
    return this.#notebooks.of(this.#tracker.currentWidget);
  }

  #show(choose) {
    const tasks = this.#tasks;
    const task = tasks && choose(tasks);
    if (task) {
      void showTask(this.#app, this.#seen, tasks, task);
    }
  }

  onUpdateRequest() {
    const tasks = this.#tasks;
    const text = tasks ? summary(tasks) : '';
    const failed = tasks ? this.#seen.unseen(tasks) : [];
    const names = failed.map(task => task.title).join(', ');
    const failures = failed.length ? `${failed.length} failed` : '';
    this.#running.show(text, `Background tasks: ${text}. Go to the cell.`, tasks?.running.length > 0);
    this.#failed.show(failures, `Background tasks: ${failures}: ${names}. Go to the cell.`, true);
    this.setHidden(!text && !failures);
  }
}

function button(className, icon) {
  const node = document.createElement('button');
  node.type = 'button';
  node.className = `nbtasks-Status-button ${className}`;
  const text = document.createElement('span');
  node.append(icon.element({ tag: 'span', className: 'nbtasks-icon' }), text);
  return {
    node,
    show(shown, title, enabled) {
      node.hidden = !shown;
      node.disabled = !enabled;
      text.textContent = shown;
      node.title = title;
      node.setAttribute('aria-label', title);
    }
  };
}
