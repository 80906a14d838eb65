// Runs in the page of the notebook, inside a function, with `notification` defined before:
// { id, title, body, tasks, failed, sound }, or null to ask for the permission to show notifications.

const SEEN = "nbtasks-notifications"; // ids in local storage: after a reload the script runs once more

function bareTitle() {
    return document.title.replace(/^\(\d+\) /, "");
}

function countInTitle(tasks) {
    window.nbtasksUnseen = (window.nbtasksUnseen || 0) + tasks;
    document.title = `(${window.nbtasksUnseen}) ${bareTitle()}`;
    document.addEventListener("visibilitychange", () => {
        window.nbtasksUnseen = 0;
        document.title = bareTitle();
    }, { once: true });
}

function showNotification() {
    const colour = notification.failed ? "%23c62828" : "%232e7d32";
    const path = notification.failed ? "M9 9l14 14M23 9L9 23" : "M7 17l6 6 12-14";
    const icon = `data:image/svg+xml,<svg xmlns='http://www.w3.org/2000/svg' viewBox='0 0 32 32'>` +
        `<circle cx='16' cy='16' r='16' fill='${colour}'/>` +
        `<path d='${path}' stroke='white' stroke-width='4' fill='none'/></svg>`;
    const shown = new Notification(notification.title, { body: notification.body, icon, tag: notification.id });
    shown.onclick = () => { window.focus(); shown.close(); };
}

function playTones() {
    // Rising if all completed, falling and lower if one failed.
    const audio = new AudioContext();
    (notification.failed ? [330, 220] : [660, 880]).forEach((pitch, index) => {
        const tone = audio.createOscillator(), volume = audio.createGain(), at = audio.currentTime + index * 0.18;
        tone.frequency.value = pitch;
        volume.gain.setValueAtTime(0.15, at);
        volume.gain.exponentialRampToValueAtTime(0.001, at + 0.3);
        tone.connect(volume).connect(audio.destination);
        tone.start(at);
        tone.stop(at + 0.3);
    });
}

function notify() {
    const seen = JSON.parse(localStorage.getItem(SEEN) || "[]");
    if (seen.includes(notification.id)) return;
    localStorage.setItem(SEEN, JSON.stringify([...seen.slice(-99), notification.id]));
    if (document.visibilityState !== "hidden") return;
    countInTitle(notification.tasks);
    if (window.Notification && Notification.permission === "granted") showNotification();
    if (notification.sound && window.AudioContext) playTones();
}

if (notification !== null) notify();
else if (window.Notification && Notification.permission === "default") Notification.requestPermission();
