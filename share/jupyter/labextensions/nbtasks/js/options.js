// The form "Run in Background With…".

import { jupyter } from './shared.js';

const { Dialog, showDialog } = jupyter.apputils;
const { Widget } = jupyter.widgets;

const BACKENDS = [
  ['', 'Automatic'],
  ['thread', 'Thread'],
  ['loop', "The notebook's event loop"],
  ['process', 'Another process'],
  ['dask', 'Dask']
];
const DEFAULT_LANES = ['default', 'single', 'multiple'];

/** What was chosen last, offered again. */
let last = { backend: '', lane: '', every: '', notify: false };

/** Ask for options; resolves to the options of `%%bgtask` as text, or to null if the form was cancelled. */
export async function askForOptions(lanes = DEFAULT_LANES) {
  const result = await showDialog({
    title: 'Run in Background With…',
    body: new OptionsForm(last, lanes),
    buttons: [Dialog.cancelButton(), Dialog.okButton({ label: 'Run' })],
    focusNodeSelector: 'select'
  });
  if (!result.button.accept) {
    return null;
  }
  last = result.value;
  return optionsText(last);
}

/** The options as they are written after `%%bgtask`. */
export function optionsText({ backend, lane, every, notify }) {
  const options = [
    backend && `--backend ${backend}`,
    lane && `--lane ${quoted(lane)}`,
    every && `--every ${quoted(every)}`,
    notify && '--notify'
  ];
  return options.filter(Boolean).join(' ');
}

/** The kernel checks the values: an error names them. Here they only must not become other options. */
function quoted(text) {
  return /^[\w.:+-]+$/.test(text) ? text : `"${text.replaceAll(/["\\\n]/g, '')}"`;
}

class OptionsForm extends Widget {
  constructor(values, lanes) {
    super();
    this.addClass('nbtasks-OptionsForm');
    this.#backend = element('select', { className: 'jp-mod-styled' });
    for (const [value, label] of BACKENDS) {
      this.#backend.append(element('option', { value, textContent: label, selected: value === values.backend }));
    }
    this.#lane = element('input', { className: 'jp-mod-styled', value: values.lane, placeholder: 'default' });
    const names = element('datalist', { id: 'nbtasks-lanes' });
    names.append(...lanes.map(value => element('option', { value })));
    this.#lane.setAttribute('list', names.id);
    this.#every = element('input', { className: 'jp-mod-styled', value: values.every, placeholder: 'once' });
    this.#notify = element('input', { type: 'checkbox', checked: values.notify });
    this.node.append(
      field('Backend', this.#backend, 'Where the cell runs.'),
      field('Lane', this.#lane, 'A lane limits how many tasks run at once.'),
      names,
      field('Every', this.#every, 'Run the cell again and again: 30s, 5m, 1h30m.'),
      field('Notify me when it finishes, if the page is not visible', this.#notify)
    );
  }

  #backend;
  #lane;
  #every;
  #notify;

  getValue() {
    return {
      backend: this.#backend.value,
      lane: this.#lane.value.trim(),
      every: this.#every.value.trim(),
      notify: this.#notify.checked
    };
  }
}

let fields = 0;

/** A labelled field with a hint; the label of a check box is behind it. */
function field(label, input, hint = '') {
  fields += 1;
  input.id = `nbtasks-field-${fields}`;
  const text = element('label', { textContent: label, htmlFor: input.id });
  const isCheck = input.type === 'checkbox';
  const node = element('div', { className: isCheck ? 'nbtasks-Check' : 'nbtasks-Field' });
  node.append(...(isCheck ? [input, text] : [text, input]));
  if (hint) {
    const note = element('span', { className: 'nbtasks-Hint', id: `${input.id}-hint`, textContent: hint });
    input.setAttribute('aria-describedby', note.id);
    node.append(note);
  }
  return node;
}

function element(name, properties) {
  return Object.assign(document.createElement(name), properties);
}
