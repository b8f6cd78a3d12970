/** Where images come from: a camera, a video file, the bundled clip. */

/** Something that plays; `video` delivers its frames. */
export interface Source {
  readonly name: string;
  readonly video: HTMLVideoElement;
  readonly isCamera: boolean; // shown mirrored, as people expect of themselves
  close(): void;
}

/** The camera that the browser offers first, or asks for. */
export async function openCamera(): Promise<Source> {
  if (!navigator.mediaDevices?.getUserMedia) {
    throw new Error('cameras need a page from https or localhost');
  }
  const wanted = { width: { ideal: 1280 }, height: { ideal: 720 }, frameRate: { ideal: 30 }, facingMode: 'user' };
  const stream = await navigator.mediaDevices.getUserMedia({ video: wanted, audio: false }).catch((error: Error) => {
    throw new Error(error.name === 'NotAllowedError' ? 'the camera was not allowed' : `no camera: ${error.message}`);
  });
  const close = () => stream.getTracks().forEach((track) => track.stop());
  const video = await playing((element) => (element.srcObject = stream), 'the camera');
  const facing = stream.getVideoTracks()[0]?.getSettings().facingMode;
  return { name: 'camera', video, isCamera: facing !== 'environment', close };
}

/** The video at an address, over and over. */
export async function openVideo(url: string, name: string): Promise<Source> {
  const video = await playing((element) => ((element.src = url), (element.loop = true)), name);
  const close = () => {
    video.removeAttribute('src');
    video.load();
    URL.revokeObjectURL(url);
  };
  return { name, video, isCamera: false, close };
}

/** A video element that plays what `attach` gives it. */
async function playing(attach: (element: HTMLVideoElement) => void, name: string): Promise<HTMLVideoElement> {
  const video = document.createElement('video');
  [video.muted, video.playsInline] = [true, true];
  attach(video);
  await video.play().catch((error: Error) => {
    throw new Error(`${name} does not play in this browser: ${error.message}`);
  });
  return video;
}

/** Calls `take` with each frame's time in seconds as it comes up; gives what ends it. */
export function everyFrame(video: HTMLVideoElement, take: (timeS: number) => void): () => void {
  let isOver = false;
  const step = (now: number, mediaTime?: number) => {
    if (!isOver) {
      take(mediaTime ?? now / 1000);
      next();
    }
  };
  const next = () => {
    if ('requestVideoFrameCallback' in video) {
      video.requestVideoFrameCallback((now, frame) => step(now, frame.mediaTime));
    } else {
      requestAnimationFrame((now) => step(now));
    }
  };
  next();
  return () => (isOver = true);
}
