// Puzzles of the algorithm "sha256": a number whose hash begins with zero bits.

import { batchSize, Hashing } from "./hashing";
import { Steps } from "./steps";

/**
 * Looks for the nonce of a puzzle, beginning at first, and ends with its four bytes. bits is
 * 1..32. It never gives up: 2^32 nonces always contain solutions of 24 bits.
 */
export function* findZeros(hashing: Hashing, puzzle: number, bits: number, first: number): Steps {
  for (let from = first >>> 0; ; from = (from + batchSize) >>> 0) {
    yield hashing.batch(puzzle, from);
    for (let n = 0; n < batchSize; n++) {
      if (hashing.out[8 * n] >>> (32 - bits) === 0) {
        const nonce = from + n;
        return new Uint8Array([nonce >>> 24, nonce >>> 16, nonce >>> 8, nonce]);
      }
    }
  }
}
