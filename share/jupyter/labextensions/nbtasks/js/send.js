// Sending the running cell to the background, and the offer to do so below a cell that runs long.

import { showError } from './messages.js';
import { sendIcon } from './icons.js';

/** Make a task of the cell that runs in the foreground. */
export async function sendToBackground(tasks) {
  const { foreground } = tasks;
  if (!foreground) {
    throw new Error('No cell is running in this notebook.');
  }
  if (!tasks.isLoaded) {
    throw new Error('nbtasks is not loaded in the kernel of this notebook: run  %load_ext nbtasks  before the cell.');
  }
  await tasks.ask('adopt', { request: foreground.request });
  tasks.wasSent(foreground);
}

/** The offers of all notebooks: one at most in each, below the cell that runs. */
export class Offers {
  #byNotebook = new Map();

  constructor(notebooks) {
    notebooks.changed.connect((_, tasks) => this.#update(tasks));
  }

  #update(tasks) {
    const request = tasks.foreground?.request;
    const { adopt_refusal: refusal, offer_after: seconds } = tasks.state ?? {};
    const wanted = request !== undefined && tasks.isLoaded && !refusal && seconds !== null && !tasks.panel.isDisposed;
    const offer = this.#byNotebook.get(tasks);
    if (offer && (!wanted || offer.request !== request || offer.seconds !== seconds)) {
      offer.end();
      this.#byNotebook.delete(tasks);
    }
    if (wanted && !this.#byNotebook.has(tasks)) {
      this.#byNotebook.set(tasks, new Offer(tasks, request, seconds));
    }
  }
}

class Offer {
  #timer;
  #node = null;

  constructor(tasks, request, seconds) {
    this.request = request;
    this.seconds = seconds;
    this.#timer = setTimeout(() => this.#show(tasks), tasks.foreground.since + seconds * 1000 - Date.now());
  }

  end() {
    clearTimeout(this.#timer);
    this.#node?.remove();
  }

  #show(tasks) {
    const output = tasks.foregroundCell?.node.querySelector('.jp-Cell-outputWrapper');
    if (!output) {
      return; // a console's cell, or one that was run before the page was loaded
    }
    this.#node = document.createElement('div');
    this.#node.className = 'nbtasks-Offer';
    this.#node.setAttribute('role', 'status');
    const text = document.createElement('span');
    text.textContent = 'This cell is taking long.';
    const send = this.#button('Send to Background', 'jp-mod-accept', async () => {
      send.disabled = true;
      try {
        await sendToBackground(tasks);
      } catch (reason) {
        showError(reason);
        send.disabled = false;
      }
    });
    send.title = 'It continues there, and the cells after it run';
    send.prepend(sendIcon.element({ tag: 'span', className: 'nbtasks-icon' }));
    this.#node.append(text, send, this.#button('Dismiss', 'jp-mod-reject', () => this.end()));
    output.after(this.#node);
  }

  #button(label, className, onClick) {
    const button = document.createElement('button');
    button.type = 'button';
    button.className = `jp-mod-styled ${className}`;
    const text = document.createElement('span');
    text.textContent = label;
    button.append(text);
    button.addEventListener('click', onClick);
    return button;
  }
}
