// The icons of the extension.

import { jupyter } from './shared.js';

const { LabIcon } = jupyter.uiComponents;

const svg = content =>
  `<svg xmlns="http://www.w3.org/2000/svg" width="16" viewBox="0 0 24 24">
     <g class="jp-icon3" fill="#616161">${content}</g>
   </svg>`;

const icon = (name, content) => new LabIcon({ name: `nbtasks:${name}`, svgstr: svg(content) });

/** The triangle of the Run button, in front of a window. */
export const backgroundIcon = icon(
  'background',
  '<path d="M3 8v14l11-7z"/><path d="M8 3h13v13h-4.5v-2H19V5h-9v2.5L8 6.2z"/>'
);

/** The same with a list. */
export const tasksIcon = icon(
  'tasks',
  '<path d="M3 4v6l5-3zM3 14v6l5-3zM10.5 6h10.5v2H10.5zM10.5 16h10.5v2H10.5z"/>'
);

/** A triangle that leaves downwards. */
export const sendIcon = icon(
  'send',
  '<path d="M5 3v9l7-4.5z"/><path d="M16 5h2v9h3l-4 5-4-5h3z"/><path d="M4 19.5h6v2H4z"/>'
);

/** By the state of a task. */
export const stateIcons = {
  pending: icon('pending', '<path d="M12 3a9 9 0 1 0 0 18 9 9 0 0 0 0-18zm0 2a7 7 0 1 1 0 14 7 7 0 0 1 0-14zm-1 3v5l4 2.4.9-1.6-3.2-1.9V8z"/>'),
  running: icon('running', '<path d="M7 4v16l13-8z"/>'),
  cancelling: icon('cancelling', '<path d="M6 6h12v12H6z"/>'),
  completed: icon('completed', '<path d="M9.5 16.2 5.3 12l-1.5 1.4 5.7 5.7L20.9 7.7l-1.4-1.4z"/>'),
  failed: icon('failed', '<path d="m18.3 4.3 1.4 1.4L13.4 12l6.3 6.3-1.4 1.4L12 13.4l-6.3 6.3-1.4-1.4 6.3-6.3-6.3-6.3 1.4-1.4 6.3 6.3z"/>'),
  cancelled: icon('cancelled', '<path d="M12 3a9 9 0 1 0 0 18 9 9 0 0 0 0-18zm0 2a7 7 0 0 1 5.6 11.2L7.8 6.4A7 7 0 0 1 12 5zM6.4 7.8l9.8 9.8A7 7 0 0 1 6.4 7.8z"/>'),
  scheduled: icon('scheduled', '<path d="M12 3a9 9 0 1 0 0 18 9 9 0 0 0 0-18zm0 2a7 7 0 1 1 0 14 7 7 0 0 1 0-14zm-1 2v5.4l4 4 1.4-1.4-3.4-3.4V7z"/>'),
  paused: icon('paused', '<path d="M6 5h4v14H6zM14 5h4v14h-4z"/>')
};
stateIcons.ended = stateIcons.completed;
stateIcons.removed = stateIcons.cancelled;
