/** Where images come from: a camera, a video file, the bundled clip. */

/** Something that plays; `video` delivers its frames. */
export interface Source {
  readonly name: string;
  readonly video: HTMLVideoElement;
  readonly isCamera: boolean;
  readonly isMirrored: boolean; // to be shown mirrored, as people expect of themselves
  readonly deviceId?: string; // of a camera
  readonly lost: AbortSignal; // aborts, with the reason, once no further frame can come
  close(): void;
}

/** A camera that can be chosen. */
export interface CameraChoice {
  readonly deviceId: string;
  readonly label: string;
}

/** The camera of this id, or the one that faces the user, or what the browser offers instead; asks for permission. */
export async function openCamera(deviceId?: string): Promise<Source> {
  if (!navigator.mediaDevices?.getUserMedia) {
    throw new Error('cameras need a page from https or localhost');
  }
  const which = deviceId === undefined ? { facingMode: 'user' } : { deviceId: { exact: deviceId } };
  const wanted = { width: { ideal: 1280 }, height: { ideal: 720 }, frameRate: { ideal: 30 }, ...which };
  const stream = await navigator.mediaDevices.getUserMedia({ video: wanted, audio: false }).catch((error: Error) => {
    throw new Error(error.name === 'NotAllowedError' ? 'the camera was not allowed' : `no camera: ${error.message}`);
  });
  const track = stream.getVideoTracks()[0]!;
  const close = () => stream.getTracks().forEach((each) => each.stop());
  const lost = new AbortController();
  track.onended = () => lost.abort(new Error('the camera is gone: it was unplugged, or its permission taken back'));
  const settings = track.getSettings();
  try {
    const video = await playing((element) => (element.srcObject = stream), 'the camera');
    const isMirrored = settings.facingMode !== 'environment';
    return { name: 'camera', video, isCamera: true, isMirrored, deviceId: settings.deviceId, lost: lost.signal, close };
  } catch (error) {
    close();
    throw error;
  }
}

/** The cameras that there are; their names are known once one was allowed. */
export async function listCameras(): Promise<CameraChoice[]> {
  const devices = (await navigator.mediaDevices?.enumerateDevices()) ?? [];
  const cameras = devices.filter(({ kind, deviceId }) => kind === 'videoinput' && deviceId !== '');
  return cameras.map(({ deviceId, label }, k) => ({ deviceId, label: label || `Camera ${k + 1}` }));
}

/** The video at an address, over and over. */
export async function openVideo(url: string, name: string): Promise<Source> {
  const video = await playing((element) => ((element.src = url), (element.loop = true)), name);
  const close = () => {
    video.removeAttribute('src');
    video.load();
    URL.revokeObjectURL(url);
  };
  return { name, video, isCamera: false, isMirrored: false, lost: new AbortController().signal, close };
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
