// The mark on the tab of a notebook with running tasks, and what runs in the title of the browser's page.

import { leadText } from './status.js';

const MARK = 'nbtasks-mod-running';

/** Keep the marks of all notebooks. */
export function keepMarks(notebooks) {
  notebooks.changed.connect((_, tasks) => {
    if (!tasks.panel.isDisposed) {
      mark(tasks.panel.title, tasks.running.length);
    }
  });
}

function mark(title, running) {
  const others = title.className.split(' ').filter(name => name && name !== MARK);
  title.className = [...others, ...(running ? [MARK] : [])].join(' ');
  const lines = title.caption.split('\n').filter(line => !/^\d+ background tasks? running$/.test(line));
  title.caption = [...lines, ...(running ? [`${running} background ${running === 1 ? 'task' : 'tasks'} running`] : [])].join('\n');
}

/** The page's title begins with what runs: "▶ 2 · fit 64% – analysis.ipynb". */
export class PageTitle {
  #notebooks;
  #tracker;
  #shown = '';
  #isOn = true;

  constructor(notebooks, tracker) {
    this.#notebooks = notebooks;
    this.#tracker = tracker;
    const update = () => this.#update();
    notebooks.changed.connect(update);
    tracker.currentChanged.connect(update);
    // JupyterLab writes the whole title when another document comes to the front.
    new MutationObserver(update).observe(document.querySelector('title'), { childList: true });
  }

  /** Whether it is shown, which is a setting. */
  set isOn(value) {
    this.#isOn = value;
    this.#update();
  }

  #update() {
    // A notification may have put the number of tasks that ended unseen at the front.
    const [unseen] = /^(\(\d+\) )?/.exec(document.title);
    const rest = document.title.slice(unseen.length);
    const name = this.#shown && rest.startsWith(this.#shown) ? rest.slice(this.#shown.length) : rest;
    this.#shown = this.#isOn ? this.#text() : '';
    const wanted = unseen + this.#shown + name;
    if (document.title !== wanted) {
      document.title = wanted;
    }
  }

  #text() {
    const running = [...this.#notebooks].flatMap(tasks => tasks.running);
    if (!running.length) {
      return '';
    }
    const inFront = this.#notebooks.of(this.#tracker.currentWidget)?.running ?? [];
    const count = running.length > 1 ? `${running.length} · ` : '';
    return `▶ ${count}${leadText(inFront.length ? inFront : running)} – `;
  }
}
