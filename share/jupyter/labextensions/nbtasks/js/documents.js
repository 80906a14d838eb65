// Keeps what notebooks show of tasks true, also where cells were moved, pasted, restored, or opened again.
//
// JupyterLab applies an update of a display only to the output area that received that display, and only while its page
// is open. So outputs of nbtasks carry the id of their display, and the ids of their tasks, in their metadata, which
// stay with the document.

const PREFIX = 'nbtasks-';
const PAST = 'nbtasks-past';
const PAST_TYPE = 'application/vnd.nbtasks.past+json';
const WIDGET = 'application/vnd.jupyter.widget-view+json';

/** Keep the outputs of all open notebooks true. */
export function keepDocuments(tracker) {
  tracker.forEach(panel => keep(panel));
  tracker.widgetAdded.connect((_, panel) => keep(panel));
}

function keep(panel) {
  const context = panel.sessionContext;
  const received = (_, message) => {
    const changes = { update_display_data: apply, display_data: removeDouble }[message.header.msg_type];
    if (changes && message.content.transient?.display_id?.startsWith(PREFIX)) {
      // Of several pages on one shared document, one comes first, and the others find that it has been done.
      const wait = panel.content.model?.collaborative ? 200 + 2_000 * Math.random() : 0;
      setTimeout(() => panel.isDisposed || changes(panel, message.content), wait);
    }
  };
  const check = () => showLostModels(panel).catch(reason => console.debug('nbtasks: no answer from the kernel', reason));
  context.iopubMessage.connect(received);
  context.kernelChanged.connect(check);
  Promise.all([panel.context.ready, context.ready]).then(check);
  // Without a kernel, as while the user is asked for one, the session does not become ready.
  panel.context.ready
    .then(() => hasSession(context))
    .then(has => has || panel.isDisposed || replaceLost(panel, {}))
    .catch(reason => console.debug('nbtasks: no list of sessions', reason));
}

/** Whether a kernel runs for the notebook, whether or not this page is connected to it. */
async function hasSession({ path, sessionManager }) {
  const withoutDrive = text => text.replace(/^[^/:]+:/, '');
  await sessionManager.refreshRunning();
  return [...sessionManager.running()].some(session => withoutDrive(session.path) === withoutDrive(path));
}

/** The outputs of nbtasks in a notebook, with what nbtasks has written into their metadata. */
function* ownOutputs(panel) {
  for (const cell of panel.content.model?.cells ?? []) {
    const outputs = cell.type === 'code' ? cell.outputs : { length: 0 };
    for (let index = 0; index < outputs.length; index++) {
      const own = outputs.get(index).metadata?.nbtasks;
      if (own) {
        yield { cell, outputs, index, own, data: outputs.get(index).data };
      }
    }
  }
}

function replace({ outputs, index, own, data }, bundle, metadata = {}) {
  if (JSON.stringify(data) !== JSON.stringify(bundle)) {
    outputs.set(index, { output_type: 'display_data', data: bundle, metadata: { ...metadata, nbtasks: own } });
  }
}

/** Apply an update to all outputs of its display, and what the history knows to the tasks of earlier kernels. */
function apply(panel, { data, metadata, transient: { display_id } }) {
  if (display_id === PAST) {
    applyPast(panel, data[PAST_TYPE]);
    return;
  }
  for (const output of ownOutputs(panel)) {
    if (output.own.display_id === display_id) {
      replace(output, data, metadata);
    }
  }
}

/**
 * Remove a display that its cell has already.
 *
 * The kernel sends a panel without a view again, as after Clear Outputs. A cell whose deletion was undone has its panel
 * before it has the view.
 */
function removeDouble(panel, { transient: { display_id } }) {
  const all = [...ownOutputs(panel)].filter(output => output.own.display_id === display_id);
  for (const { cell, outputs, index } of all.reverse()) {
    if (all.some(other => other.cell === cell && other.index < index)) {
      cell.sharedModel.updateOutputs(index, index + 1, []);
    }
  }
}

/** How tasks of earlier kernels ended, by their ids; only outputs that do not show an end yet are replaced. */
function applyPast(panel, past) {
  for (const output of ownOutputs(panel)) {
    const tasks = output.own.tasks ?? [];
    if (output.own.live && tasks.length && tasks.every(id => id in past)) {
      const join = type => tasks.map(id => past[id][type]).join('\n');
      const own = { ...output.own, live: false };
      replace({ ...output, own }, { 'text/html': join('text/html'), 'text/plain': join('text/plain') });
    }
  }
}

/** Show the last picture of panels whose widgets the kernel does not have, in place of an error. */
async function showLostModels(panel) {
  const kernel = panel.sessionContext.session?.kernel;
  if (![...ownOutputs(panel)].some(output => WIDGET in output.data) || panel.isDisposed) {
    return;
  }
  const reply = kernel ? await kernel.requestCommInfo({ target_name: 'jupyter.widget' }) : null;
  replaceLost(panel, reply?.content.comms ?? {});
}

/** Replace the panels whose widgets are not among these models. */
function replaceLost(panel, models) {
  for (const output of [...ownOutputs(panel)].filter(one => WIDGET in one.data)) {
    const widget = panel.content.widgets.find(one => one.model === output.cell);
    const isShown = widget?.outputArea?.node.querySelector('.nbtasks-panel, .nbtasks-table, .nbtasks-schedules');
    if (!isShown && !(output.data[WIDGET].model_id in models)) {
      const { [WIDGET]: _, ...picture } = output.data;
      replace(output, picture);
    }
  }
}
