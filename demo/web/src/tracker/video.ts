/** The frames of a playing video. */

/** The time in seconds of the next frame that comes up; null once `signal` aborts. */
export function nextFrame(video: HTMLVideoElement, signal?: AbortSignal): Promise<number | null> {
  return new Promise((resolve) => {
    if (signal?.aborted) {
      return resolve(null);
    }
    const give = (timeS: number | null) => {
      signal?.removeEventListener('abort', stop);
      resolve(timeS);
    };
    const hasCallback = 'requestVideoFrameCallback' in video;
    const handle = hasCallback
      ? video.requestVideoFrameCallback((_, { mediaTime }) => give(mediaTime))
      : requestAnimationFrame((now) => give(now / 1000));
    const stop = () => {
      hasCallback ? video.cancelVideoFrameCallback(handle) : cancelAnimationFrame(handle);
      give(null);
    };
    signal?.addEventListener('abort', stop, { once: true });
  });
}
