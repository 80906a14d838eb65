const bar = event.target.closest('[data-bar]');
const outer = this.closest('.nbtasks-timeline-view:not(.jupyter-widgets-disconnected)');
const field = outer && outer.querySelector('.nbtasks-selected input');
const select = key => {
    field.value = key;
    field.dispatchEvent(new Event('input', { bubbles: true }));
};
if (event.type === 'keydown') {
    if (event.key === 'Escape' && bar) bar.blur();
} else if (event.type === 'focusin' && bar) {
    if (field) select(bar.dataset.bar);
    else this.querySelector('.nbtasks-bar-details').textContent = bar.querySelector('title').textContent;
} else if (event.type === 'focusout' && field && !this.contains(event.relatedTarget)) select('');
