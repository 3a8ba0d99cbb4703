// Hashing a puzzle's blocks in batches by whichever way is faster here.
//
// Plain JavaScript wins wherever it is compiled. Browsers that may not compile it (iOS in
// lockdown mode, hardened builds) run it a hundred times slower, and there WebCrypto wins in spite of its cost for
// each call. The trial costs nothing: its hashes are part of the search.

import { initial, rounds } from "./sha256";

/** How many hashes a batch has; 16384 is a multiple of it. Small, so that a batch without a compiler stays short. */
export const batchSize = 128;

/** How long each way is tried before one is chosen, in milliseconds. */
const trial = 30;

/** From how many hashes a millisecond WebCrypto is not worth a trial: a call for each hash allows for a few hundred at best. */
const unbeatable = 1000;

/** Tells the time in milliseconds from any starting point; never the wall clock, which people set. */
export type Clock = () => number;

/** The part of WebCrypto that is used. */
export interface Digester {
  digest(algorithm: string, data: Uint8Array): Promise<ArrayBuffer>;
}

/** How many hashes took how long. */
class Rate {
  private hashes = 0;
  private time = 0;

  add(time: number): void {
    this.hashes += batchSize;
    this.time += time;
  }

  /** Whether enough was seen to compare. A coarse clock makes a single batch take no time at all. */
  get known(): boolean {
    return this.time >= trial;
  }

  /** Hashes a millisecond. */
  get value(): number {
    return this.hashes / this.time;
  }
}

/** Hashes the blocks seed || puzzle || number of one ticket. */
export class Hashing {
  /** The digests of the last batch: word k of hash n is at 8n+k. */
  readonly out = new Int32Array(8 * batchSize);
  /** What was measured of each way, for the curious and the tests. */
  readonly plain = new Rate();
  readonly webCrypto = new Rate();
  private readonly w = new Int32Array(64);
  private readonly middle = new Int32Array(8);
  private readonly end = new Int32Array(8);
  private readonly message = new DataView(new ArrayBuffer(40));

  /** digester may be undefined: browsers offer WebCrypto on https and localhost only. */
  constructor(seed: Int32Array, private digester: Digester | undefined, private readonly now: Clock) {
    for (let i = 0; i < 8; i++) {
      this.w[i] = seed[i];
      this.message.setInt32(4 * i, seed[i]);
    }
    this.w[10] = 0x80000000; // padding of a message of 40 bytes
    this.w[15] = 320;
  }

  /**
   * Fills out with the hashes numbered from, from+1, … of a puzzle. When it returns a
   * promise, out is filled once that resolves; there is one batch at a time.
   */
  batch(puzzle: number, from: number): Promise<void> | undefined {
    const start = this.now();
    const { digester } = this;
    if (digester && this.prefersWebCrypto()) {
      return Promise.resolve().then(() => this.batchByWebCrypto(digester, puzzle, from)).then(
        () => this.webCrypto.add(this.now() - start),
        () => {
          this.digester = undefined;
          this.batchByPlain(puzzle, from);
        },
      );
    }
    this.batchByPlain(puzzle, from);
    this.plain.add(this.now() - start);
    return undefined;
  }

  private prefersWebCrypto(): boolean {
    const { plain, webCrypto } = this;
    return plain.known && (webCrypto.known ? webCrypto.value > plain.value : plain.value < unbeatable);
  }

  private batchByPlain(puzzle: number, from: number): void {
    const { w, middle, end, out } = this;
    w[8] = puzzle;
    rounds(w, 0, 9, initial, middle);
    for (let n = 0; n < batchSize; n++) {
      w[9] = from + n;
      rounds(w, 9, 64, middle, end);
      for (let k = 0; k < 8; k++) {
        out[8 * n + k] = end[k] + initial[k];
      }
    }
  }

  private batchByWebCrypto(digester: Digester, puzzle: number, from: number): Promise<void> {
    const { message, out } = this;
    const jobs: Promise<ArrayBuffer>[] = [];
    message.setUint32(32, puzzle);
    for (let n = 0; n < batchSize; n++) {
      message.setUint32(36, from + n);
      // digest copies the message before it returns (Web Cryptography API, section 14.3.5).
      jobs.push(digester.digest("SHA-256", new Uint8Array(message.buffer)));
    }
    return Promise.all(jobs).then((digests) => {
      digests.forEach((bytes, n) => {
        const view = new DataView(bytes);
        for (let k = 0; k < 8; k++) {
          out[8 * n + k] = view.getInt32(4 * k);
        }
      });
    });
  }
}
