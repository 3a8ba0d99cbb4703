import { equal, test } from "./harness_test";
import { batchSize, Digester, Hashing } from "./hashing";
import { digest, seedOf } from "./sha256";
import { hex } from "./sha256_test";

/** The hash of a block, computed without any of the short cuts. */
export function blockHash(seed: Int32Array, puzzle: number, number: number): Int32Array {
  const message = new DataView(new ArrayBuffer(40));
  seed.forEach((word, i) => message.setInt32(4 * i, word));
  message.setUint32(32, puzzle);
  message.setUint32(36, number);
  return digest(new Uint8Array(message.buffer));
}

function checkBatch(hashing: Hashing, seed: Int32Array, puzzle: number, from: number): void {
  for (let n = 0; n < batchSize; n++) {
    equal(hex(hashing.out.slice(8 * n, 8 * n + 8)), hex(blockHash(seed, puzzle, (from + n) >>> 0)), "hash " + (from + n));
  }
}

const seed = seedOf("ticket");

// A clock on which batches by plain JavaScript and by WebCrypto take as long as it says.
function world(webCryptoTime: number, plainTime = 10): { now: () => number; digester: Digester; calls: () => number } {
  let time = 0, asked = 0, calls = 0;
  return {
    now: () => time += calls > asked ? (asked = calls, webCryptoTime) : plainTime,
    digester: {
      digest: (name, data) => {
        calls++;
        equal(name, "SHA-256");
        const copy = data.slice();
        return Promise.resolve().then(() => {
          const view = new DataView(new ArrayBuffer(32));
          digest(copy).forEach((word, i) => view.setInt32(4 * i, word));
          return view.buffer;
        });
      },
    },
    calls: () => calls,
  };
}

test("plain batches are right", () => {
  const hashing = new Hashing(seed, undefined, () => 0);
  [[0, 0], [63, 4096], [7, 0xffffff80]].forEach(([puzzle, from]) => {
    equal(hashing.batch(puzzle, from), undefined);
    checkBatch(hashing, seed, puzzle, from);
  });
});

test("WebCrypto is tried and kept where it is faster", async () => {
  const { now, digester, calls } = world(1);
  const hashing = new Hashing(seed, digester, now);
  for (let i = 0; i < 100; i++) {
    await hashing.batch(5, i * batchSize);
  }
  checkBatch(hashing, seed, 5, 99 * batchSize);
  equal(calls() > 90 * batchSize, true, "keeping to WebCrypto");
});

test("WebCrypto is tried and left where it is slower", async () => {
  const { now, digester, calls } = world(50);
  const hashing = new Hashing(seed, digester, now);
  for (let i = 0; i < 100; i++) {
    await hashing.batch(5, i * batchSize);
  }
  checkBatch(hashing, seed, 5, 99 * batchSize);
  equal(calls(), batchSize, "hashes by WebCrypto");
});

test("WebCrypto is not tried where plain JavaScript is fast", () => {
  const { now, digester, calls } = world(0.01, 0.1);
  const hashing = new Hashing(seed, digester, now);
  for (let i = 0; i < 1000; i++) {
    equal(hashing.batch(5, i * batchSize), undefined);
  }
  equal(hashing.plain.known, true);
  equal(calls(), 0, "hashes by WebCrypto");
});

test("a WebCrypto that fails is not asked again", async () => {
  let time = 0, calls = 0;
  const hashing = new Hashing(seed, { digest: () => (calls++, Promise.reject(new Error("no"))) }, () => time += 10);
  for (let i = 0; i < 20; i++) {
    await hashing.batch(1, i * batchSize);
    checkBatch(hashing, seed, 1, i * batchSize);
  }
  equal(calls, batchSize, "calls");
});

test("a WebCrypto that throws does not stop the search", async () => {
  let time = 0;
  const hashing = new Hashing(seed, { digest: () => { throw new Error("no"); } }, () => time += 10);
  for (let i = 0; i < 20; i++) {
    await hashing.batch(1, i * batchSize);
    checkBatch(hashing, seed, 1, i * batchSize);
  }
});
