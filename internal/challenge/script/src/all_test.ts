// The entry point of the unit tests. Go's side calls what is hung onto the window.

import { finish } from "./harness_test";
import { digest, seedOf } from "./sha256";
import { hex } from "./sha256_test";
import { encodeAnswer } from "./answer";
import { batchSize, Hashing } from "./hashing";
import { findDigester, Job } from "./solve";
import { solve } from "./solve_test";
import "./hashing_test";
import "./page_test";

Object.assign(window, {
  finish,
  digests: (messages: number[][]) => messages.map((message) => hex(digest(Uint8Array.from(message)))),
  answer: async (puzzles: number, job: Job): Promise<string> => {
    const payloads: (Uint8Array | undefined)[] = [];
    for (let puzzle = 0; puzzle < puzzles; puzzle++) {
      payloads.push(await solve({ ...job, puzzle }) || undefined);
    }
    return encodeAnswer(payloads);
  },
  /** Hashes a millisecond by plain JavaScript and by WebCrypto, each for a while. */
  rates: async (): Promise<number[]> => {
    const now = (): number => performance.now();
    const plain = new Hashing(seedOf("rates"), undefined, now);
    // A clock that jumps during the first batch makes plain JavaScript look slow, so that all others are left to WebCrypto.
    let readings = 0;
    const other = new Hashing(seedOf("rates"), findDigester(), () => now() + (readings++ ? 1e6 : 0));
    for (const hashing of [plain, other]) {
      let hashes = 0;
      for (const end = now() + 400; now() < end; hashes += batchSize) {
        await hashing.batch(0, hashes);
      }
    }
    return [plain.plain.value, other.webCrypto.value];
  },
});
