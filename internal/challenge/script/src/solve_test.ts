import { equal, test } from "./harness_test";
import { blockHash } from "./hashing_test";
import { seedOf } from "./sha256";
import { Job, Solver } from "./solve";
import { run, Steps } from "./steps";

const now = (): number => performance.now();

export function solve(job: Job, wanted = () => true): Promise<Uint8Array | null> {
  return new Promise((resolve, reject) => new Solver(now, undefined, 20).solve(job, wanted, resolve, reject));
}

const job: Job = { ticket: "solve", algorithm: "sha256", bits: 10, puzzle: 3, attempt: 0, left: 60000 };

test("nonces give zero bits, also where the search passes the last number", async () => {
  const seed = seedOf(job.ticket);
  for (let attempt = 0; attempt < 32; attempt++) { // 15 begins in the last sixteenth of the numbers, 16 at 0 again
    const payload = (await solve({ ...job, attempt }))!;
    equal(payload.length, 4);
    const nonce = new DataView(payload.buffer).getUint32(0);
    equal(nonce >>> 28, attempt % 16, "where the nonce was found");
    equal(blockHash(seed, job.puzzle, nonce)[0] >>> 22, 0, "first ten bits");
  }
});

test("what is not wanted any more ends with null", async () => {
  equal(await solve({ ...job, bits: 32 }, () => false), null);
  equal(await solve({ ...job, bits: 32, left: 30 }), null);
  equal(await solve({ ...job, algorithm: "memory", left: 0 }), null);
});

test("an algorithm of a later version is an error", async () => {
  let error = "";
  await solve({ ...job, algorithm: "lattice" }).catch((e: Error) => error = e.message);
  equal(error, "unknown algorithm lattice");
});

test("a run gives way after each slice and reports what is thrown", async () => {
  let time = 0, turns = 0;
  function* steps(): Steps {
    for (let i = 0; i < 10; i++) {
      time += 4;
      yield i === 4 ? Promise.resolve() : undefined;
    }
    throw new Error("broken");
  }
  const error = await new Promise((resolve) => run(steps(), {
    now: () => time,
    later: (turn) => {
      turns++;
      Promise.resolve().then(turn);
    },
    slice: 8,
    wanted: () => true,
    done: () => resolve("done"),
    failed: resolve,
  }));
  equal(String(error), "Error: broken");
  equal(turns, 5, "turns");
});

test("nothing is solved before the call returns", () => {
  let done = false;
  new Solver(now, undefined, 20).solve({ ...job, bits: 1 }, () => true, () => done = true, () => done = true);
  equal(done, false);
});

test("a rejected step is reported", async () => {
  function* steps(): Steps {
    yield Promise.reject(new Error("rejected"));
    return new Uint8Array(0);
  }
  const error = await new Promise((resolve) => run(steps(), {
    now, later: setTimeout, slice: 8, wanted: () => true, done: () => resolve("done"), failed: resolve,
  }));
  equal(String(error), "Error: rejected");
});
