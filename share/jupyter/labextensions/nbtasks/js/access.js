// What screen readers and keyboards need in the views of nbtasks, and what ipywidgets cannot express: the roles of bars
// and tables, which buttons are pressed, how a table is sorted, and the focus when a picture takes a panel's place.

const VIEWS = '.nbtasks-panel, .nbtasks-table';
const SORTED = { '▲': 'ascending', '▼': 'descending' };

/** Keep the views of all open notebooks accessible. */
export function keepAccessible(tracker) {
  tracker.forEach(panel => keep(panel));
  tracker.widgetAdded.connect((_, panel) => keep(panel));
}

function keep(panel) {
  const node = panel.content.node;
  const open = new AbortController();
  const focus = new KeptFocus(node, open.signal);
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
    changed.forEach(describe);
    if (changed.size) {
      focus.restore();
    }
  });
  observer.observe(node, { childList: true, subtree: true, attributes: true, attributeFilter: ['class', 'style'] });
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

/** Keeps the focus in an output when its panel is replaced: a focused button goes with the panel that it was in. */
class KeptFocus {
  #output = null;

  constructor(node, signal) {
    node.addEventListener('focusin', ({ target }) => {
      this.#output = target.closest?.('.nbtasks-panel') ? target.closest('.jp-OutputArea') : null;
    });
    // An element that is removed hands the focus to none.
    node.addEventListener('focusout', ({ relatedTarget }) => {
      if (relatedTarget) {
        this.#output = null;
      }
    });
    document.addEventListener('pointerdown', ({ target }) => {
      if (this.#output && !this.#output.contains(target)) {
        this.#output = null;
      }
    }, { capture: true, signal });
  }

  restore() {
    if (!this.#output?.isConnected || (document.activeElement !== document.body && document.activeElement?.isConnected
        && !document.activeElement.matches('.jp-Notebook'))) {
      return;
    }
    const panel = this.#output.querySelector('.nbtasks-panel');
    const target = panel?.querySelector('button:not([disabled])') ?? panel;
    if (target === panel) {
      panel?.setAttribute('tabindex', '-1');
    }
    target?.focus({ preventScroll: true });
  }
}
