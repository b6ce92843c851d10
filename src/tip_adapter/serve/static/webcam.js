// A burst from the webcam: ten frames, one group.

const FRAMES = 10;
const PAUSE_MS = 200;

export function burst() {
  const dialog = document.getElementById("webcam");
  const video = document.getElementById("video");
  const shoot = document.getElementById("shoot");
  const close = document.getElementById("close-webcam");
  return new Promise((resolve, reject) => {
    let stream = null;
    let frames = [];
    shoot.onclick = async () => {
      shoot.disabled = true;
      frames = await takeFrames(video);
      shoot.disabled = false;
      dialog.close();
    };
    close.onclick = () => dialog.close();
    dialog.onclose = () => {
      stream?.getTracks().forEach((track) => track.stop());
      resolve(frames);
    };
    // Before the first picture there is none to take.
    shoot.disabled = true;
    video.addEventListener("loadeddata", () => { shoot.disabled = false; }, { once: true });
    dialog.showModal();
    if (!navigator.mediaDevices) {
      dialog.close();
      reject(new Error("This page may use a camera on this machine (127.0.0.1) or over HTTPS alone"));
      return;
    }
    navigator.mediaDevices.getUserMedia({ video: { width: 640 } }).then(
      (found) => { stream = found; video.srcObject = found; },
      () => { dialog.close(); reject(new Error("The camera was refused or is not there: allow it, or drop photos")); },
    );
  });
}

async function takeFrames(video) {
  const canvas = document.createElement("canvas");
  canvas.width = video.videoWidth;
  canvas.height = video.videoHeight;
  const frames = [];
  for (let number = 1; number <= FRAMES; number += 1) {
    canvas.getContext("2d").drawImage(video, 0, 0);
    const blob = await new Promise((done) => canvas.toBlob(done, "image/jpeg", 0.92));
    frames.push(new File([blob], `webcam ${new Date().toISOString()} ${number}.jpg`, { type: "image/jpeg" }));
    await new Promise((done) => setTimeout(done, PAUSE_MS));
  }
  return frames;
}
