const button = this, text = button.closest('.nbtasks-section').querySelector('pre, .nbtasks-copied');
const show = label => { button.textContent = label; setTimeout(() => { button.textContent = 'Copy'; }, 2000); };
const select = () => {
    getSelection().selectAllChildren(text);
    show(document.execCommand('copy') ? 'Copied' : 'Selected: press Ctrl+C');
};
if (navigator.clipboard) navigator.clipboard.writeText(text.textContent).then(() => show('Copied'), select);
else select();
