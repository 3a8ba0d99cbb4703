// What pages and workers say to each other, and solving one puzzle on either.

import { Clock, Digester, Hashing } from "./hashing";
import { Tables } from "./memory";
import { seedOf } from "./sha256";
import { Later, makeLater, run, Steps } from "./steps";
import { findZeros } from "./zeros";

/** One puzzle to be solved. */
export interface Job {
  readonly ticket: string;
  readonly algorithm: string;
  readonly bits: number;
  readonly puzzle: number;
  /** How often this puzzle was handed out before: each try begins its search elsewhere. */
  readonly attempt: number;
  /** How long the result is of use, in milliseconds from now. */
  readonly left: number;
}

/** What a worker answers to a job. Its first message, which says that it runs, is null. */
export interface Result {
  readonly puzzle: number;
  /** null when the time was over first. */
  readonly payload: Uint8Array | null;
}

/** Solves the puzzles of one ticket, one at a time. */
export class Solver {
  private readonly later: Later = makeLater();
  private hashing: Hashing | undefined;
  private tables: Tables | undefined;

  /** slice is how long to work before giving way, in milliseconds. */
  constructor(private readonly now: Clock, private readonly digester: Digester | undefined, private readonly slice: number) {}

  /**
   * Solves a job for as long as wanted says so and there is time left. Exactly one of
   * done and failed is called, and not before solve has returned unless the job is nonsense.
   */
  solve(job: Job, wanted: () => boolean, done: (payload: Uint8Array | null) => void, failed: (error: unknown) => void): void {
    const { now, later, slice } = this;
    const end = now() + job.left;
    let steps: Steps;
    try {
      steps = this.steps(job);
    } catch (error) {
      failed(error);
      return;
    }
    run(steps, { now, later, slice, wanted: () => now() < end && wanted(), done, failed });
  }

  private steps(job: Job): Steps {
    const hashing = this.hashing || (this.hashing = new Hashing(seedOf(job.ticket), this.digester, this.now));
    switch (job.algorithm) {
      case "sha256":
        return findZeros(hashing, job.puzzle, job.bits, job.attempt << 28);
      case "memory":
        return (this.tables || (this.tables = new Tables())).find(hashing, job.puzzle, job.attempt << 12);
    }
    throw new Error("unknown algorithm " + job.algorithm);
  }
}

/** The WebCrypto of this thread, if there is one. */
export function findDigester(): Digester | undefined {
  return typeof crypto === "object" && crypto.subtle ? crypto.subtle : undefined;
}
