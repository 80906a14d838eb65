// `NotebookTasks`: the tasks of one open notebook, as its kernel publishes them. docs/architecture.md has the format.

import { jupyter } from './shared.js';

const { KernelMessage } = jupyter.services;
const { Signal } = jupyter.signaling;

const TARGET = 'nbtasks.lab';
const DISPLAY_ID = 'nbtasks-lab';
const MIME_TYPE = 'application/vnd.nbtasks.lab+json';
const VERSION = 1;

const WATCH_SECONDS = 150;
/** Much shorter than a watch: in hidden tabs browsers call timers once a minute. */
const RENEW_MS = 30_000;
/** Requests that may end while an answer, which comes on another channel, is on its way. */
const MOST_ENDED = 100;
const NO_KERNEL = ['restarting', 'autorestarting', 'terminating', 'dead'];

/** Whether the kernel runs Python, as its specification says; a busy kernel would not answer a question. */
export function isPython(sessionContext) {
  const name = sessionContext.session?.kernel?.name;
  const spec = sessionContext.specsManager.specs?.kernelspecs[name];
  return spec?.language?.toLowerCase() === 'python';
}

export class NotebookTasks {
  /** The state that the kernel published last; null while nbtasks is not loaded there. */
  state = null;
  /** Emitted when the state or the running cell has changed. */
  changed = new Signal(this);
  /** The running foreground cell: `{ request, cellId, since }`, the id of its request, its own, and its begin; or null. */
  foreground = null;
  /** The last requests that have ended, by their ids. */
  #ended = [];

  #renewal = null;

  constructor(panel) {
    this.panel = panel;
    this.context = panel.sessionContext;
    this.context.kernelChanged.connect(this.#kernelChanged, this);
    this.context.connectionStatusChanged.connect(this.#connectionChanged, this);
    this.context.statusChanged.connect(this.#statusChanged, this);
    this.context.iopubMessage.connect(this.#received, this);
    this.context.specsManager.specsChanged.connect(this.#connectionChanged, this);
    panel.disposed.connect(this.#dispose, this);
    document.addEventListener('visibilitychange', this.#shown);
    this.#connectionChanged();
  }

  get isLoaded() {
    return this.state !== null;
  }

  /** The tasks, in the order in which they are shown. */
  get tasks() {
    return this.state?.tasks ?? [];
  }

  get running() {
    return this.tasks.filter(task => task.state === 'running' || task.state === 'cancelling');
  }

  /** The name of the notebook's file. */
  get name() {
    return this.context.name || this.panel.title.label;
  }

  /** Send a request, which is served while a cell runs; rejects with a message for the user. */
  async ask(action, details = {}) {
    const answer = await this.#request({ action, ...details });
    if (answer === undefined) {
      throw new Error('nbtasks is not loaded in the kernel of this notebook.');
    }
    if (answer.status !== 'ok') {
      throw new Error(answer.message);
    }
    return answer;
  }

  /** The cell of a task, or undefined if it was deleted or never known. */
  cellOf(task) {
    return task.cell_id == null ? undefined : this.panel.content.widgets.find(cell => cell.model.id === task.cell_id);
  }

  /** The cell that runs in the foreground. */
  get foregroundCell() {
    if (!this.foreground) {
      return undefined;
    }
    const { request, cellId } = this.foreground;
    const runs = cell => cell.outputArea.future?.msg.header.msg_id === request;
    // A page that was loaded meanwhile has no future for the request.
    return this.panel.content.widgets.find(
      cell => cell.model.type === 'code' && (cellId == null ? runs(cell) : cell.model.id === cellId)
    );
  }

  /** Ask the kernel for its state, and to publish it from now on. */
  async watch() {
    const kernel = this.context.session?.kernel;
    if (!kernel || kernel.connectionStatus !== 'connected' || NO_KERNEL.includes(kernel.status) || !isPython(this.context)) {
      return;
    }
    const before = this.foreground;
    const answer = await this.#request({ action: 'watch', seconds: WATCH_SECONDS });
    if (!this.panel.isDisposed && this.context.session?.kernel === kernel) {
      if (answer?.state.adopt_refusal === '' && this.foreground === before) {
        this.#takeForeground(answer.foreground);
      }
      this.#take(answer?.state ?? null);
    }
  }

  /** The running cell as the kernel knows it: this page may have been loaded, or connected again, meanwhile. */
  #takeForeground(cell) {
    if (!cell || this.#ended.includes(cell.request)) {
      this.foreground = null;
    } else if (cell.request !== this.foreground?.request) {
      this.foreground = { request: cell.request, cellId: cell.cell_id, since: Date.now() - 1000 * cell.seconds };
    }
  }

  /** The running cell has become a task. */
  wasSent(foreground) {
    if (this.foreground === foreground) {
      this.foreground = null;
      this.changed.emit();
    }
  }

  async #request(request) {
    const kernel = this.context.session?.kernel;
    if (!kernel) {
      return undefined;
    }
    const message = KernelMessage.createMessage({
      msgType: 'comm_info_request',
      channel: 'control',
      username: kernel.username,
      session: kernel.clientId,
      content: { target_name: TARGET, nbtasks: request }
    });
    const reply = await kernel.sendControlMessage(message, true).done;
    return reply?.content.nbtasks;
  }

  #take(state) {
    const usable = state?.loaded && state.version === VERSION ? state : null;
    const was = this.state;
    this.state = usable;
    const request = this.foreground?.request;
    if (request !== undefined && this.tasks.some(task => task.adopted_request === request)) {
      this.foreground = null; // sent to the background, by whatever means
    }
    if (usable && this.#renewal === null) {
      this.#renewal = setInterval(() => this.#renew(), RENEW_MS);
    } else if (!usable) {
      clearInterval(this.#renewal);
      this.#renewal = null;
    }
    if (usable || was) {
      this.changed.emit();
    }
  }

  #renew() {
    // A kernel that ends meanwhile answers nothing more; its state is dropped when its status changes.
    this.watch().catch(reason => console.debug('nbtasks: no answer from the kernel', reason));
  }

  #shown = () => {
    if (document.visibilityState === 'visible' && this.isLoaded) {
      this.#renew();
    }
  };

  #received(_, message) {
    const type = message.header.msg_type;
    if (type === 'update_display_data') {
      if (message.content.transient?.display_id === DISPLAY_ID && MIME_TYPE in message.content.data) {
        const state = message.content.data[MIME_TYPE];
        const first = state.loaded && !this.isLoaded;
        this.#take(state);
        if (first) {
          this.#renew();
        }
      }
    } else if (type === 'execute_input') {
      const request = message.parent_header.msg_id;
      if (request !== this.foreground?.request) {
        this.foreground = { request, cellId: null, since: Date.now() };
        this.changed.emit();
      }
    } else if (type === 'status' && message.content.execution_state === 'idle') {
      if (message.parent_header.msg_type === 'execute_request') {
        this.#ended = [...this.#ended, message.parent_header.msg_id].slice(-MOST_ENDED);
      }
      if (this.foreground && message.parent_header.msg_id === this.foreground.request) {
        this.foreground = null;
        this.changed.emit();
      }
    }
  }

  #kernelChanged() {
    this.#forget();
    this.#connectionChanged();
  }

  #connectionChanged() {
    if (this.context.session?.kernel?.connectionStatus === 'connected') {
      this.#renew();
    }
  }

  #statusChanged(_, status) {
    if (NO_KERNEL.includes(status)) {
      this.#forget();
    }
  }

  #forget() {
    this.foreground = null;
    this.#take(null);
    this.changed.emit();
  }

  #dispose() {
    document.removeEventListener('visibilitychange', this.#shown);
    clearInterval(this.#renewal);
    Signal.clearData(this); // and with it the connections to the signals of the session
  }
}
