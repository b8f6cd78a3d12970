/** Frames of a video in, hands in the camera's frame out: finds hands, follows them, smooths. */

import { OPPOSITE_SIDES, TRACKER_CONFIG, SAME_POSITION_OVERLAP, STRIDE } from '../common/constants.ts';
import { areLikeAPair, deduplicate, isCovered, isSameHand, overlap, Track, trackOf } from './association.ts';
import { letterbox, readMaps, type Detection } from './detection.ts';
import { accompanied, Estimator, isUsable, confidenceIn, type Estimate, type View } from './estimator.ts';
import type { SkinnedHand } from './lbs.ts';
import type { Session } from './session.ts';
import { HandSmoother, type Smooth } from './smoothing.ts';
import { Stopwatch, type Timings } from './stopwatch.ts';
import type { Hand, RgbaImage } from './types.ts';

/**
 * Takes the frames of one video in order: looks where each hand should be, searches the whole frame only
 * for hands that are missing, smooths, and keeps ids.
 *
 * While one hand is followed, the search for another belongs to the next frame, as in Python: call
 * `searchAhead` once a frame's hands are out, and it is done when the next frame comes.
 */
export class HandTracker {
  private readonly stopwatch = new Stopwatch();
  private readonly estimator: Estimator;
  private readonly detector: Session;
  private readonly model: SkinnedHand;
  private readonly smooth: Smooth;
  private numHands: number;
  private tracks: Track[] = [];
  private nextId = 0;
  private framesSinceSearch = 0;
  private size = '';
  private searched: { detections: Detection[]; spentMs: number } | null = null;
  private wanted: RgbaImage | null = null; // the image of a search that is yet to begin

  constructor(mesh: Session, detector: Session, model: SkinnedHand, smooth: Smooth = 'low', numHands = 2) {
    this.estimator = new Estimator(mesh, model, this.stopwatch);
    [this.detector, this.model, this.smooth, this.numHands] = [detector, model, smooth, numHands];
  }

  /** Milliseconds that the last frame spent on its stages; a search ahead counts in its stage, not in the total. */
  get timingsMs(): Timings {
    return this.stopwatch.ms;
  }

  /** Forget all hands, and follow up to `numHands` from now on; ids start from 0 again. */
  reset(numHands = this.numHands): void {
    this.numHands = numHands;
    [this.tracks, this.nextId, this.framesSinceSearch, this.size] = [[], 0, 0, ''];
    [this.searched, this.wanted] = [null, null];
  }

  /** The hands in the next frame, by id. `timeS`: when it was taken, on any clock. */
  async track(view: View, timeS: number): Promise<Hand[]> {
    await this.searchAhead(); // where the caller did not
    this.stopwatch.restart();
    return this.stopwatch.timeAsync('total', async () => {
      const size = `${view.image.width}x${view.image.height}`;
      if (size !== this.size) {
        [this.tracks, this.size, this.searched] = [[], size, null]; // another video, in which hands have new ids
      }
      await this.follow(view, timeS);
      await this.findMissing(view, timeS);
      return this.shown(view, timeS);
    });
  }

  /** Do the search that the last frame asked for, if it did. */
  async searchAhead(): Promise<void> {
    const { wanted } = this;
    this.wanted = null;
    if (wanted) {
      const start = performance.now();
      const detections = await this.detections(wanted);
      this.searched = { detections, spentMs: performance.now() - start };
    }
  }

  /** The hands that were seen, and those that are carried on for a frame or two, as far as there is room. */
  private shown({ camera }: View, timeS: number): Hand[] {
    const hands = this.seen().map((track) => track.hand);
    const isCarried = (track: Track) => track.misses > 0 && track.misses <= TRACKER_CONFIG.maxCoastFrames && !track.replaced;
    const carried = this.tracks.filter(isCarried).slice(0, Math.max(0, this.numHands - hands.length));
    return [...hands, ...carried.map((track) => track.predictedHand(camera, timeS))].sort((a, b) => a.id - b.id);
  }

  private seen(): Track[] {
    return this.tracks.filter((track) => track.misses === 0);
  }

  /** Look for each followed hand where it should be. */
  private async follow(view: View, timeS: number): Promise<void> {
    const seen = new Map<Track, Estimate>();
    for (const track of this.tracks.filter((followed) => followed.isLookedFor(timeS))) {
      const look = await this.lookAgain(track, view, timeS);
      if (look) {
        seen.set(track, look);
      }
    }
    const kept = this.withinNumber(deduplicate(seen, timeS));
    for (const track of this.tracks) {
      const estimate = kept.get(track);
      if (estimate) {
        this.update(track, estimate, view, timeS);
      } else {
        track.misses += 1;
      }
    }
    this.tracks = this.tracks.filter((track) => track.canBeReidentified(timeS));
  }

  /** At most `numHands`: one that was missed is back, when another has taken its place. */
  private withinNumber(kept: Map<Track, Estimate>): Map<Track, Estimate> {
    const first = [...kept].sort(([a, p], [b, q]) => a.misses - b.misses || confidenceIn(q) - confidenceIn(p));
    return new Map(first.slice(0, this.numHands));
  }

  private async lookAgain(track: Track, view: View, timeS: number): Promise<Estimate | null> {
    const box = track.boxAt(timeS);
    if (!isUsable(box, view.image)) {
      return null;
    }
    let estimate = await this.estimator.estimate(view, box, track.hand.side);
    if (estimate && track.sideDoubts >= TRACKER_CONFIG.handednessSwitchFrames) {
      const tried = await this.estimator.bothSides(view, box, estimate);
      estimate = tried.lead < -this.leadByOthers(track) ? tried.other : estimate;
      track.sideDoubts = 0; // if this changed nothing, doubt for as long again before the next try
    }
    const leastScore = track.misses <= TRACKER_CONFIG.maxCoastFrames ? TRACKER_CONFIG.keepThreshold : TRACKER_CONFIG.newTrackThreshold;
    return isHand(estimate, view.image, leastScore) ? estimate : null;
  }

  /** How much the one other hand in view, if there is one, speaks for the side of this track. */
  private leadByOthers(track: Track): number {
    const others = this.seen().filter((other) => other !== track);
    if (others.length !== 1) {
      return 0;
    }
    return others[0]!.hand.side === track.hand.side ? -OPPOSITE_SIDES : OPPOSITE_SIDES;
  }

  /** Search for hands that are not followed: in this frame if none is, otherwise between this one and the next. */
  private async findMissing(view: View, timeS: number): Promise<void> {
    const searched = this.searched;
    this.searched = null;
    if (searched) {
      this.stopwatch.add('detect', searched.spentMs); // belongs to the frame that takes its result in
      await this.takeIn(searched.detections, view, timeS);
    }
    if (this.seen().length === 0) {
      this.framesSinceSearch = 0;
      const detections = await this.stopwatch.timeAsync('detect', () => this.detections(view.image));
      await this.takeIn(detections, view, timeS);
    } else if (this.isSearchDue()) {
      this.framesSinceSearch = 0;
      this.wanted = view.image;
    }
  }

  /** In every frame for one that was lost and is remembered, now and then for one more or an unsure one. */
  private isSearchDue(): boolean {
    this.framesSinceSearch += 1;
    const lost = this.tracks.some((track) => track.misses > 0);
    const due = lost || this.framesSinceSearch >= TRACKER_CONFIG.detectionInterval;
    return due && this.sure().length < this.numHands;
  }

  /** The tracks that see a hand for sure; the others may be drifting off theirs. */
  private sure(): Track[] {
    return this.seen().filter((track) => track.estimate.hand.score >= TRACKER_CONFIG.sureScore);
  }

  private async detections(image: RgbaImage): Promise<Detection[]> {
    const boxed = letterbox(image, this.detector.height, this.detector.width);
    const maps = await this.detector.run(boxed.image);
    return readMaps(maps, this.detector.width / STRIDE, boxed, this.estimator.confidence.proposed);
  }

  /** Look where a detector saw hands; each found goes on with the track that has missed it, or begins one. */
  private async takeIn(detections: readonly Detection[], view: View, timeS: number): Promise<void> {
    const seen = this.sure();
    const sought = new Set(this.tracks.filter((track) => !seen.includes(track)));
    const known = seen.map((track) => track.estimate);
    const hands = await this.lookAt(detections, view, known);
    for (const [k, track] of [...seen].entries()) {
      if (hands[k] !== known[k]) {
        this.update(track, hands[k]!, view, timeS);
      }
    }
    for (const estimate of hands.slice(known.length)) {
      const track = trackOf([...sought], estimate, timeS);
      if (track) {
        if (track.misses > 0 || estimate.hand.score >= TRACKER_CONFIG.sureScore) {
          this.update(track, estimate, view, timeS);
        }
        sought.delete(track);
      } else {
        for (const other of sought) {
          other.replaced ||= other.hand.side === estimate.hand.side; // more likely this very hand than one beside it
        }
      }
      seen.push(track ?? this.begin(estimate, view, timeS));
    }
    const unsure = [...sought].filter((track) => track.misses === 0);
    unsure.sort((one, other) => other.estimate.hand.score - one.estimate.hand.score);
    for (const track of unsure.slice(Math.max(0, this.numHands - seen.length))) {
      track.misses += 1; // surer ones have taken its place
    }
    this.tracks = [...seen, ...sought].sort((one, other) => one.id - other.id);
  }

  /**
   * The `known` hands and then those in the detector's boxes that are not among them, up to `numHands`. A known one is
   * another estimate than before where two hands of one side were told apart, and where what was followed is some part of
   * a hand that is found for sure.
   */
  private async lookAt(
    detections: readonly Detection[], view: View, known: readonly Estimate[],
  ): Promise<Estimate[]> {
    const hands = [...known];
    const unsure: Estimate[] = [];
    const detectionOf = new Map<number, Detection>();
    for (const detection of detections.slice(0, 2 * this.numHands)) {
      if (hands.length === this.numHands) {
        break;
      }
      const { box } = detection;
      if (!isUsable(box, view.image) || hands.some((hand) => overlap(box, hand.box) > SAME_POSITION_OVERLAP)) {
        continue;
      }
      const estimate = await this.estimator.found(view, detection);
      if (!isHand(estimate, view.image, 0) || isCovered(estimate.box, hands)) {
        continue;
      }
      if (isSure(estimate)) {
        const k = partOf(estimate, hands);
        detectionOf.set(k, detection);
        hands[k] = estimate;
      } else {
        unsure.push(estimate);
      }
    }
    if (hands.length === 1 && this.numHands > 1 && known.length === 0) {
      const beside = unsure.filter((estimate) => areLikeAPair(estimate, hands[0]!)).map(accompanied);
      hands.push(...beside.filter(isSure).slice(0, 1));
    }
    const [one, other] = hands;
    const ofOneSide = hands.length === 2 && one!.hand.side === other!.hand.side;
    return ofOneSide && detectionOf.size ? this.toldApart([one!, other!], detectionOf, view) : hands;
  }

  /**
   * Two hands of one side, the less sure one as one of the other side where not enough speaks against it. `detectionOf`:
   * by its number, where the detector saw a hand just now, not followed yet or in part alone.
   */
  private async toldApart(
    hands: [Estimate, Estimate], detectionOf: ReadonlyMap<number, Detection>, view: View,
  ): Promise<Estimate[]> {
    const tried = [];
    for (const [k, hand] of hands.entries()) {
      tried.push(await this.triedAsOther(hand, detectionOf.get(k), view));
    }
    const k = tried[1]!.lead < tried[0]!.lead ? 1 : 0;
    const { lead, other } = tried[k]!;
    const leastScore = detectionOf.has(k) ? TRACKER_CONFIG.newTrackThreshold : TRACKER_CONFIG.keepThreshold;
    if (lead >= OPPOSITE_SIDES || !isHand(other, view.image, leastScore) || isSameHand(other, hands[1 - k]!)) {
      return hands;
    }
    return k === 0 ? [other, hands[1]] : [hands[0], other];
  }

  /** The hand with what it is as one of the other side; `detection`: where one was found just now. */
  private async triedAsOther(hand: Estimate, detection: Detection | undefined, view: View): Promise<Estimate> {
    if (!detection) {
      return this.estimator.bothSides(view, hand.box, hand);
    }
    if (hand.other) {
      return hand;
    }
    const again = (await this.estimator.found(view, detection, 2, true)) ?? hand;
    return again.hand.side === hand.hand.side ? again : { ...hand, other: again, lead: -again.lead };
  }

  private begin(estimate: Estimate, { camera }: View, timeS: number): Track {
    const smoother = new HandSmoother(this.smooth, this.model);
    return this.stopwatch.time('smooth', () => new Track(this.nextId++, smoother, estimate, camera, timeS));
  }

  private update(track: Track, estimate: Estimate, { camera }: View, timeS: number): void {
    this.stopwatch.time('smooth', () => track.update(estimate, camera, timeS));
  }
}

const isSure = (estimate: Estimate): boolean => estimate.hand.score >= TRACKER_CONFIG.newTrackThreshold;

/** Which of the hands is a part of the one that is found, as its fingers may be; their number if none is. */
function partOf(estimate: Estimate, hands: readonly Estimate[]): number {
  const isPart = ({ box, hand }: Estimate) => hand.side === estimate.hand.side && isCovered(box, [estimate]);
  const k = estimate.hand.score >= TRACKER_CONFIG.sureScore ? hands.findIndex(isPart) : -1;
  return k < 0 ? hands.length : k;
}

function isHand(estimate: Estimate | null, image: RgbaImage, score: number): estimate is Estimate {
  return estimate !== null && estimate.hand.score >= score && isUsable(estimate.box, image);
}
