// The plugin: registers commands, and adds the status item and the sidebar.

import { jupyter } from './shared.js';
import { keepAccessible } from './access.js';
import { backgroundIcon, sendIcon, tasksIcon } from './icons.js';
import { askForOptions } from './options.js';
import { showError } from './messages.js';
import { keepDocuments } from './documents.js';
import { isPython } from './notebook_tasks.js';
import { OpenNotebooks } from './open_notebooks.js';
import { PageTitle, keepMarks } from './marks.js';
import { runInBackground } from './run.js';
import { Offers, sendToBackground } from './send.js';
import { SeenFailures } from './show.js';
import { Sidebar } from './sidebar.js';
import { StatusItem } from './status.js';

const { ICommandPalette } = jupyter.apputils;
const { INotebookTracker } = jupyter.notebook;
const { ISettingRegistry } = jupyter.settingregistry;
const { IStatusBar } = jupyter.statusbar;

const ID = 'nbtasks:plugin';
const CATEGORY = 'Background Tasks';
const RUN = 'nbtasks:run-in-background';
const RUN_WITH = 'nbtasks:run-with-options';
const SEND = 'nbtasks:send-to-background';
const SHOW = 'nbtasks:show-tasks';
const SHORTCUT = 'Ctrl Shift Enter';

/** Run a command's action; what goes wrong is shown to the user. */
const reported = action => async args => {
  try {
    await action(args);
  } catch (reason) {
    showError(reason);
  }
};

/**
 * What the user, or another extension, has bound to our shortcut, where the focus is. Of bindings to one element, JupyterLab
 * takes the last, which is ours: defaults come after the user's.
 */
function otherBinding(commands, event) {
  if (event?.type !== 'keybinding' || event.keys.join(' ') !== SHORTCUT) {
    return undefined;
  }
  return commands.keyBindings.find(
    ({ command, keys, selector, args }) =>
      command !== RUN &&
      keys.join(' ') === SHORTCUT &&
      document.activeElement?.closest(selector) &&
      commands.isEnabled(command, args)
  );
}

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
    isEnabled: args => otherBinding(commands, args._luminoEvent) !== undefined || canRun(),
    execute: reported(async args => {
      const other = otherBinding(commands, args._luminoEvent);
      await (other ? commands.execute(other.command, other.args) : runInBackground(current()));
    })
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
    caption: 'Send the running cell to the background: it continues there, and the cells after it run',
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

function addSidebar(app, sidebar, palette) {
  app.shell.add(sidebar, 'left', { rank: 300, type: 'Background Tasks' });
  app.commands.addCommand(SHOW, {
    label: 'Show Background Tasks',
    caption: 'The tasks of all open notebooks',
    icon: tasksIcon,
    execute: () => {
      if (sidebar.isVisible) {
        sidebar.activate(); // Notebook 7.2 would hide it
      } else {
        app.shell.activateById(sidebar.id);
      }
    }
  });
  palette?.addItem({ command: SHOW, category: CATEGORY });
}

/** Going to the cell of a failed task is seeing it. */
function noteSeen(tasks, cell, seen) {
  if (tasks && cell) {
    tasks.tasks.filter(task => task.cell_id === cell.model.id).forEach(task => seen.add(task));
  }
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
    keepDocuments(tracker);
    keepAccessible(tracker);
    const notebooks = new OpenNotebooks(tracker);
    addCommands(app, tracker, notebooks, palette);
    const seen = new SeenFailures();
    tracker.activeCellChanged.connect((_, cell) => noteSeen(notebooks.of(tracker.currentWidget), cell, seen));
    const item = new StatusItem(app, tracker, notebooks, seen);
    if (statusBar) {
      statusBar.registerStatusItem('nbtasks:status', { item, align: 'left', rank: 10 });
    } else {
      app.shell.add(item, 'menu', { rank: 10_000 });
    }
    addSidebar(app, new Sidebar(app, notebooks, seen), palette);
    keepMarks(notebooks);
    const pageTitle = new PageTitle(notebooks, tracker);
    new Offers(notebooks);
    const read = loaded => {
      pageTitle.isOn = loaded.composite.pageTitle;
    };
    settings
      ?.load(ID)
      .then(loaded => {
        read(loaded);
        loaded.changed.connect(read);
      })
      .catch(reason => console.warn('nbtasks: no settings', reason));
  }
};

export default plugin;
