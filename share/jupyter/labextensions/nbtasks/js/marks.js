// The mark on the tab of a notebook with running tasks; in Notebook 7, on the title of the browser's tab.

const MARK = 'nbtasks-mod-running';
const SIGN = '▶ ';

/** Keep the marks of all notebooks. `marksPage`: each notebook has a page of its own, with a title of its own. */
export function keepMarks(notebooks, marksPage) {
  notebooks.changed.connect((_, tasks) => {
    if (!tasks.panel.isDisposed) {
      mark(tasks.panel.title, tasks.running.length);
      if (marksPage) {
        markPage(tasks.running.length > 0);
      }
    }
  });
}

function mark(title, running) {
  const others = title.className.split(' ').filter(name => name && name !== MARK);
  title.className = [...others, ...(running ? [MARK] : [])].join(' ');
  const lines = title.caption.split('\n').filter(line => !/^\d+ background tasks? running$/.test(line));
  title.caption = [...lines, ...(running ? [`${running} background ${running === 1 ? 'task' : 'tasks'} running`] : [])].join('\n');
}

function markPage(isRunning) {
  // A notification may have put the number of tasks that ended unseen at the front.
  const [known, unseen = ''] = /^(\(\d+\) )?(?:▶ )?/.exec(document.title);
  const wanted = unseen + (isRunning ? SIGN : '') + document.title.slice(known.length);
  if (document.title !== wanted) {
    document.title = wanted;
  }
}
