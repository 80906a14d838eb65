// Sending the running cell to the background.

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
}
