// Puzzles of the algorithm "memory": the generalised birthday problem with memory as its
// cost, known as Equihash (A. Biryukov and D. Khovratovich, NDSS 2016), for n = 60 bits and k = 3: eight of 65536 values
// whose exclusive or is zero, found by Wagner's algorithm in three rounds of sorting and
// pairing. It needs about 2 MB, which a phone has and a graphics card's thousand cores have not in their caches.

import { batchSize, Hashing } from "./hashing";
import { Steps } from "./steps";

/** How many values a salt gives, and how many pairs each round keeps: 65536 are expected, the surplus is dropped. */
const size = 1 << 16;
/** 15 bits are matched in each round, 30 in the last. */
const buckets = 1 << 15;
const low15 = buckets - 1;
/** How many values or buckets are worked through between two looks at the clock. */
const portion = 1 << 12;

/** The tables of the search. They are made once for a thread and used again for each salt. */
export class Tables {
  // Values: first, second and last 15, 15 and 30 bits.
  private readonly first = new Uint16Array(size);
  private readonly second = new Uint16Array(size);
  private readonly last = new Uint32Array(size);
  // Pairs of values that agree in the first 15 bits: their members, and the exclusive or of the rest.
  private readonly pairLeft = new Uint16Array(size);
  private readonly pairRight = new Uint16Array(size);
  private readonly pairSecond = new Uint16Array(size);
  private readonly pairLast = new Uint32Array(size);
  // Pairs of pairs that agree in 30 bits.
  private readonly quadLeft = new Uint16Array(size);
  private readonly quadRight = new Uint16Array(size);
  private readonly quadLast = new Uint32Array(size);
  // Entries in the order of their key; bucket b is at start[b]..start[b+1].
  private readonly order = new Uint16Array(size);
  private readonly start = new Uint32Array(buckets + 2);
  private count = 0;

  /** Looks for a solution of a puzzle, beginning with the salt first, and ends with its 18 bytes. */
  *find(hashing: Hashing, puzzle: number, first: number): Steps {
    for (let salt = first & 0xffff; ; salt = (salt + 1) & 0xffff) {
      for (let from = 0; from < size / 4; from += batchSize) {
        yield hashing.batch(puzzle, salt * (size / 4) + from);
        this.take(hashing.out, 4 * from);
      }

      this.tally(this.first, size);
      yield undefined;
      this.place(this.first, size);
      yield undefined;
      this.count = 0;
      for (let b = 0; b < buckets; b += portion) {
        this.pairValues(b, b + portion);
        yield undefined;
      }

      this.tally(this.pairSecond, this.count);
      yield undefined;
      this.place(this.pairSecond, this.count);
      yield undefined;
      this.count = 0;
      for (let b = 0; b < buckets; b += portion) {
        this.pairPairs(b, b + portion);
        yield undefined;
      }

      this.tally(this.first, this.count); // where pairPairs has put the next 15 bits of its pairs
      yield undefined;
      this.place(this.first, this.count);
      yield undefined;
      for (let b = 0; b < buckets; b += portion) {
        const leaves = this.matchQuads(b, b + portion);
        if (leaves) {
          return payload(salt, leaves);
        }
        yield undefined;
      }
    }
  }

  /** Takes in a batch of digests, each of which gives four values of 60 bits. */
  private take(digests: Int32Array, at: number): void {
    const { first, second, last } = this;
    for (let i = 0; i < 4 * batchSize; i++) {
      const high = digests[2 * i], low = digests[2 * i + 1];
      first[at + i] = high >>> 17;
      second[at + i] = (high >>> 2) & low15;
      last[at + i] = ((high & 3) << 28) | (low >>> 4);
    }
  }

  /**
   * The first half of sorting the numbers 0..n-1 by their key (a counting sort, in two
   * halves so that each is a short step): works out where each bucket begins.
   */
  private tally(key: Uint16Array, n: number): void {
    const { start } = this;
    start.fill(0);
    // Counted one place further up, so that place can move start[b+1] from b's beginning to its end.
    for (let i = 0; i < n; i++) {
      start[key[i] + 2]++;
    }
    for (let b = 2; b < buckets + 2; b++) {
      start[b] += start[b - 1];
    }
  }

  /** The second half: puts the numbers into their buckets, keeping the order of those with equal keys. */
  private place(key: Uint16Array, n: number): void {
    const { order, start } = this;
    for (let i = 0; i < n; i++) {
      order[start[key[i] + 1]++] = i;
    }
  }

  private pairValues(from: number, to: number): void {
    const { order, start, second, last, pairLeft, pairRight, pairSecond, pairLast } = this;
    let m = this.count;
    for (let b = from; b < to; b++) {
      for (let p = start[b], end = start[b + 1]; p < end; p++) {
        for (let q = p + 1; q < end && m < size; q++, m++) {
          const x = order[p], y = order[q]; // x < y, since the sort keeps the order
          pairLeft[m] = x;
          pairRight[m] = y;
          pairSecond[m] = second[x] ^ second[y];
          pairLast[m] = last[x] ^ last[y];
        }
      }
    }
    this.count = m;
  }

  private pairPairs(from: number, to: number): void {
    const { order, start, first, pairLeft, pairRight, pairLast, quadLeft, quadRight, quadLast } = this;
    let m = this.count;
    for (let b = from; b < to; b++) {
      for (let p = start[b], end = start[b + 1]; p < end; p++) {
        const x = order[p], xl = pairLeft[x], xr = pairRight[x];
        for (let q = p + 1; q < end && m < size; q++) {
          const y = order[q], yl = pairLeft[y], yr = pairRight[y];
          if (xl === yl || xl === yr || xr === yl || xr === yr) {
            continue;
          }
          quadLeft[m] = xl < yl ? x : y;
          quadRight[m] = xl < yl ? y : x;
          const rest = pairLast[x] ^ pairLast[y];
          quadLast[m] = rest;
          first[m] = rest >>> 15;
          m++;
        }
      }
    }
    this.count = m;
  }

  private matchQuads(from: number, to: number): number[] | undefined {
    const { order, start, quadLast } = this;
    for (let b = from; b < to; b++) {
      for (let p = start[b], end = start[b + 1]; p < end; p++) {
        for (let q = p + 1; q < end; q++) {
          if (quadLast[order[p]] !== quadLast[order[q]]) {
            continue;
          }
          const x = this.leaves(order[p]), y = this.leaves(order[q]);
          if (!x.some((leaf) => y.indexOf(leaf) >= 0)) { // (a^b)^(c^d) and (a^c)^(b^d) agree for nothing
            return x[0] < y[0] ? x.concat(y) : y.concat(x);
          }
        }
      }
    }
    return undefined;
  }

  private leaves(quad: number): number[] {
    const { pairLeft, pairRight } = this;
    const x = this.quadLeft[quad], y = this.quadRight[quad];
    return [pairLeft[x], pairRight[x], pairLeft[y], pairRight[y]];
  }
}

function payload(salt: number, leaves: number[]): Uint8Array {
  const view = new DataView(new ArrayBuffer(18));
  view.setUint16(0, salt);
  leaves.forEach((leaf, i) => view.setUint16(2 + 2 * i, leaf));
  return new Uint8Array(view.buffer);
}
