// The plugin: registers commands, and adds the status item and the sidebar.

import { jupyter } from './shared.js';
import { backgroundIcon, sendIcon } from './icons.js';
import { askForOptions } from './options.js';
import { isPython } from './notebook_tasks.js';
import { OpenNotebooks } from './open_notebooks.js';
import { runInBackground } from './run.js';
import { sendToBackground } from './send.js';

const { ICommandPalette, Notification } = jupyter.apputils;
const { INotebookTracker } = jupyter.notebook;
const { ISettingRegistry } = jupyter.settingregistry;
const { IStatusBar } = jupyter.statusbar;

const ID = 'nbtasks:plugin';
const CATEGORY = 'Background Tasks';
const RUN = 'nbtasks:run-in-background';
const RUN_WITH = 'nbtasks:run-with-options';
const SEND = 'nbtasks:send-to-background';

/** Run a command's action; what goes wrong is shown to the user. */
const reported = action => async () => {
  try {
    await action();
  } catch (reason) {
    Notification.error(String(reason?.message ?? reason));
  }
};

function addCommands(app, tracker, notebooks, palette) {
  const { commands, shell } = app;
  const current = () => notebooks.of(tracker.currentWidget);
  // A command of a toolbar or menu is meant for the notebook in front, of which a cell is active.
  const canRun = () => {
    const panel = tracker.currentWidget;
    const front = panel !== null && (panel === shell.currentWidget || panel.isVisible);
    return front && panel.content.activeCell?.model.type === 'code' && isPython(panel.sessionContext);
  };
  commands.addCommand(RUN, {
    label: args => (args.toolbar ? '' : 'Run in Background'),
    caption: 'Run this cell in the background',
    icon: backgroundIcon,
    isEnabled: canRun,
    execute: reported(() => runInBackground(current()))
  });
  commands.addCommand(RUN_WITH, {
    label: 'Run in Background With…',
    caption: 'Run this cell in the background, with options',
    isEnabled: canRun,
    execute: reported(async () => {
      const tasks = current();
      const options = await askForOptions(tasks.state?.lanes);
      if (options !== null) {
        await runInBackground(tasks, options);
      }
      tasks.panel.content.activate();
    })
  });
  const sendable = () => current()?.foreground != null;
  commands.addCommand(SEND, {
    label: 'Send Running Cell to Background',
    caption: 'Send the running cell to the background: the notebook goes on, and the cell too',
    icon: sendIcon,
    isEnabled: sendable,
    isVisible: args => !args.toolbar || (sendable() && current().isLoaded && !current().state.adopt_refusal),
    execute: reported(() => sendToBackground(current()))
  });
  for (const command of [RUN, RUN_WITH, SEND]) {
    palette?.addItem({ command, category: CATEGORY });
  }
  const refresh = () => [RUN, RUN_WITH, SEND].forEach(name => commands.notifyCommandChanged(name));
  notebooks.changed.connect(refresh);
  tracker.activeCellChanged.connect(refresh);
  tracker.currentChanged.connect(refresh);
}

function addStyle() {
  const link = document.createElement('link');
  link.rel = 'stylesheet';
  link.href = new URL('style.css', import.meta.url).href;
  document.head.append(link);
}

const plugin = {
  id: ID,
  description: 'Runs cells in the background, and shows what runs there.',
  autoStart: true,
  requires: [INotebookTracker],
  optional: [ICommandPalette, IStatusBar, ISettingRegistry],
  activate(app, tracker, palette, statusBar, settings) {
    addStyle();
    const notebooks = new OpenNotebooks(tracker);
    addCommands(app, tracker, notebooks, palette);
    settings?.load(ID).catch(reason => console.warn('nbtasks: no settings', reason));
  }
};

export default plugin;
