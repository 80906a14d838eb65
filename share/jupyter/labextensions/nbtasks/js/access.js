// What screen readers and keyboards need in the views of nbtasks, and what ipywidgets cannot express: the roles of bars
// and tables, which buttons are pressed, how a table is sorted, and the focus when a control goes. And whether a panel
// offers output.

const VIEWS = '.nbtasks-panel, .nbtasks-table, .nbtasks-schedules';
const SORTED = { '▲': 'ascending', '▼': 'descending' };
const FOCUSABLE = 'button, input, select, pre[tabindex]';

/** Keep the views of all open notebooks accessible. */
export function keepAccessible(tracker) {
  tracker.forEach(panel => keep(panel));
  tracker.widgetAdded.connect((_, panel) => keep(panel));
}

function keep(panel) {
  const node = panel.content.node;
  const open = new AbortController();
  const focus = new KeptFocus(node, open.signal);
  const outputs = new OutputSwitches(panel);
  const observer = new MutationObserver(records => {
    const changed = new Set();
    for (const { type, target, addedNodes } of records) {
      const view = target.closest?.(VIEWS);
      if (view) {
        changed.add(view);
      } else if (type === 'childList') {
        addedNodes.forEach(added => added.querySelectorAll?.(VIEWS).forEach(one => changed.add(one)));
        addedNodes.forEach(added => added.matches?.(VIEWS) && changed.add(added));
      }
    }
    changed.forEach(view => {
      describe(view);
      outputs.update(view);
    });
    focus.restore();
  });
  const attributeFilter = ['class', 'style', 'disabled'];
  observer.observe(node, { childList: true, subtree: true, attributes: true, attributeFilter });
  panel.disposed.connect(() => {
    observer.disconnect();
    open.abort();
  });
}

/** Set attributes that differ; null removes one. */
function set(element, attributes) {
  for (const [name, value] of Object.entries(attributes)) {
    if (value === null) {
      element.removeAttribute(name);
    } else if (element.getAttribute(name) !== String(value)) {
      element.setAttribute(name, value);
    }
  }
}

function describe(view) {
  view.querySelectorAll('.progress').forEach(describeBar);
  view.querySelectorAll('.widget-toggle-button').forEach(button => pressed(button, 'mod-active'));
  view.querySelectorAll('.nbtasks-chip').forEach(button => pressed(button, 'nbtasks-chosen'));
  view.querySelectorAll('.nbtasks-tr .nbtasks-output, .nbtasks-tr .nbtasks-details').forEach(button => {
    set(button, { 'aria-expanded': button.classList.contains('nbtasks-on') });
  });
  view.querySelectorAll('.nbtasks-tr > .nbtasks-cover').forEach(button => {
    set(button, { 'aria-expanded': button.parentElement.classList.contains('nbtasks-on') });
  });
  view.querySelectorAll('.nbtasks-grid').forEach(describeTable);
}

function pressed(button, name) {
  set(button, { 'aria-pressed': button.classList.contains(name) });
}

function describeBar(track) {
  const bar = track.querySelector('.progress-bar');
  const name = track.closest(VIEWS).querySelector('[role=status] b')?.textContent ?? '';
  const known = !track.closest('.nbtasks-indeterminate');
  set(track, {
    role: 'progressbar',
    'aria-label': `Progress of ${name}`,
    'aria-valuemin': 0,
    'aria-valuemax': 100,
    'aria-valuenow': known ? Math.round(parseFloat(bar?.style.width) || 0) : null
  });
}

function describeTable(grid) {
  set(grid, { role: 'table', 'aria-label': 'Background tasks' });
  for (const row of grid.querySelectorAll('.nbtasks-heads-row')) {
    set(row, { role: 'row' });
    row.querySelectorAll('.nbtasks-heads > *').forEach(head => {
      set(head, { role: 'columnheader', 'aria-sort': SORTED[head.textContent.trim().slice(-1)] ?? 'none' });
    });
    set(row.lastElementChild, { role: 'columnheader', 'aria-label': 'Actions' });
  }
  for (const body of grid.querySelectorAll('.nbtasks-body')) {
    set(body, { role: 'rowgroup' });
    for (const row of body.children) {
      set(row, { role: 'row' });
      const cells = row.matches('.nbtasks-tr') ? row.querySelectorAll('.nbtasks-cells > *, .nbtasks-buttons') : row.children;
      for (const cell of cells) {
        set(cell, { role: 'cell' });
      }
    }
  }
}

/**
 * Offers the output of a task in its own panel only where it is not below that anyway, and opens it there.
 *
 * JupyterLab shows the output of a running cell in the page that has started the cell, and in all pages of a shared
 * document. In a page that was loaded since, the panel is live, and the output below it is not.
 */
class OutputSwitches {
  #panel;
  /** The cells, by id, whose output was opened once. */
  #opened = new Set();

  constructor(panel) {
    this.#panel = panel;
  }

  update(view) {
    const button = view.querySelector('.nbtasks-output-below');
    const cell = button && this.#panel.content.widgets.find(one => one.outputArea?.node.contains(button));
    if (!cell) {
      return;
    }
    const isBelow = Boolean(cell.outputArea.future) || Boolean(this.#panel.content.model?.collaborative);
    if (view.classList.contains('nbtasks-fed') !== isBelow) {
      view.classList.toggle('nbtasks-fed', isBelow);
    }
    if (!isBelow && !this.#opened.has(cell.model.id) && !button.closest('.jupyter-widgets-disconnected')) {
      this.#opened.add(cell.model.id);
      if (!button.classList.contains('mod-active')) {
        button.click();
      }
    }
  }
}

/**
 * Keeps the focus in a view when the focused control goes: it was disabled or hidden, or its panel was replaced.
 *
 * The next control that is left has it then.
 */
class KeptFocus {
  /** The control that has the focus or had it last, its output, and its place among the controls there. */
  #last = null;

  constructor(node, signal) {
    node.addEventListener('focusin', ({ target }) => {
      const view = target.closest?.(VIEWS);
      const output = target.closest?.('.jp-OutputArea');
      if (view && output) {
        this.#last = { target, output, place: controls(output).indexOf(target) };
      } else if (!this.#runsCell || !isAround(target, this.#last.output)) {
        this.#last = null;
      }
    });
    // A control that goes hands the focus to none.
    node.addEventListener('focusout', ({ relatedTarget }) => {
      if (relatedTarget && !this.#runsCell) {
        this.#last = null;
      }
    });
    document.addEventListener('pointerdown', ({ target }) => {
      if (this.#last && !this.#last.output.contains(target)) {
        this.#last = null;
      }
    }, { capture: true, signal });
  }

  /** Whether the focus is on Run again, with which JupyterLab moves it to the cell. */
  get #runsCell() {
    return Boolean(this.#last?.target.dataset.commandlinkerCommand);
  }

  restore() {
    const last = this.#last;
    if (!last?.output.isConnected || isUsable(last.target) || isFocusElsewhere(last)) {
      return;
    }
    const left = controls(last.output).filter(isUsable);
    const picture = last.output.querySelector('div.nbtasks-panel[data-state]');
    let next;
    if (last.target.isConnected) {
      const beside = left.filter(one => one.parentElement === last.target.parentElement);
      next = nearest(beside, last.target) ?? nearest(left, last.target);
    } else if (picture) {
      next = picture.querySelector('button'); // it has replaced a panel, and has other controls
    } else {
      next = left[Math.min(last.place, left.length - 1)];
    }
    if (!next && picture) {
      next = picture;
      next.setAttribute('tabindex', '-1');
    }
    next?.focus({ preventScroll: true });
  }
}

/** Whether the user has moved the focus: a control that goes leaves it to the page, the notebook or its cell. */
function isFocusElsewhere({ target, output }) {
  const active = document.activeElement;
  return active !== target && active?.isConnected && !isAround(active, output);
}

function isAround(element, output) {
  return element.matches('body, .jp-Notebook, .jp-Cell') && element.contains(output);
}

/** The first of these controls after the target, else the last one before it. */
function nearest(candidates, target) {
  const isAfter = one => target.compareDocumentPosition(one) & Node.DOCUMENT_POSITION_FOLLOWING;
  return candidates.find(isAfter) ?? candidates.at(-1);
}

/** The controls in an output; the bars of a timeline show their details when they have the focus, and are none. */
function controls(output) {
  return [...output.querySelectorAll(FOCUSABLE)].filter(one => one.closest(VIEWS));
}

function isUsable(control) {
  return control.isConnected && !control.disabled && control.checkVisibility({ visibilityProperty: true });
}
