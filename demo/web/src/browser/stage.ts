/** The image on the page, and the canvas of the hands exactly over it. */

import { element } from '../common/dom.ts';

/** Shows images as large as fits, in their own proportions. */
export class Stage {
  private readonly frame: HTMLElement;
  private readonly canvas = element<HTMLCanvasElement>('image');
  private readonly context = this.canvas.getContext('bitmaprenderer')!;

  constructor(frame: HTMLElement) {
    this.frame = frame;
  }

  /** Whether all is shown as in a mirror; nothing is mirrored before it is tracked. */
  set mirrored(isMirrored: boolean) {
    this.frame.classList.toggle('mirrored', isMirrored);
  }

  /** What is seen: a bar while files load, words while nothing plays, or the image. */
  set state(state: 'loading' | 'empty' | 'playing') {
    this.frame.dataset['state'] = state;
  }

  /** Take on the proportions of an image; gives the stage's size in device pixels. */
  fit(width: number, height: number): { width: number; height: number } {
    this.frame.style.setProperty('--proportions', `${width / height}`);
    this.state = 'playing';
    const shown = this.frame.clientWidth * Math.min(devicePixelRatio, 2);
    return { width: Math.round(shown), height: Math.round((shown * height) / width) };
  }

  /** Show an image, and let it go. */
  show(image: ImageBitmap): void {
    [this.canvas.width, this.canvas.height] = [image.width, image.height];
    this.context.transferFromImageBitmap(image);
  }
}
