// Handing out puzzles to workers and, where these are blocked or dead, to the page's own thread.
//
// The rule that must never break: whatever workers do or fail to do, finished is called
// soon after the limit.

import { Clock } from "./hashing";
import { Job, Result, Solver } from "./solve";

/** The work of one challenge. */
export interface Work {
  readonly ticket: string;
  readonly algorithm: string;
  /** How many puzzles there are, 1..64. */
  readonly puzzles: number;
  /** How many bits of a hash must be zero (algorithm "sha256"). */
  readonly bits: number;
  /** How many milliseconds to work at most. */
  readonly limit: number;
  /** The worker script's address, or "" for none. */
  readonly worker: string;
  /** How many workers to start. */
  readonly threads: number;
}

/** What a pool needs of the page, and whom it tells. */
export interface Owner {
  readonly now: Clock;
  /** Solves on the page's own thread. */
  readonly solver: Solver;
  /** Called after each solved puzzle but the last. */
  progress(solved: number): void;
  /** Called once: with the payloads by puzzle, complete or as far as the limit let them come. */
  finished(payloads: (Uint8Array | undefined)[], solved: number): void;
  /** Called when the page's own thread cannot solve either. */
  failed(error: unknown): void;
  /** Wraps a callback so that what it throws reaches the owner. */
  guard<A extends unknown[]>(callback: (...args: A) => void): (...args: A) => void;
}

/** How long workers may be silent before the page's own thread begins, in milliseconds. */
const patience = 1000;

/** One challenge being worked on. */
export class Pool {
  private readonly payloads: (Uint8Array | undefined)[] = [];
  private readonly attempts: number[] = [];
  private readonly workers: Worker[] = [];
  private readonly end: number;
  private solved = 0;
  private over = false;
  private heard = false;
  private ownThread = false;

  constructor(private readonly work: Work, private readonly owner: Owner) {
    this.end = owner.now() + work.limit;
    for (let i = 0; i < work.puzzles; i++) {
      this.payloads.push(undefined);
      this.attempts.push(0);
    }
  }

  /** Begins. It is called once. */
  start(): void {
    const { work, owner } = this;
    setTimeout(owner.guard(() => this.finish()), work.limit);
    for (let i = 0; i < work.threads && i < work.puzzles && work.worker; i++) {
      if (!this.startWorker()) {
        break; // where one is refused, so are the others
      }
    }
    if (this.workers.length === 0) {
      this.useOwnThread();
    } else {
      setTimeout(owner.guard(() => this.heard || this.useOwnThread()), patience);
    }
  }

  private startWorker(): boolean {
    let worker: Worker;
    try {
      worker = new Worker(this.work.worker);
    } catch (refused) {
      return false;
    }
    this.workers.push(worker);
    worker.onmessage = this.owner.guard((event: MessageEvent) => {
      this.heard = true;
      const result = event.data as Result | null;
      if (result) {
        this.take(result.puzzle, result.payload);
      }
      const job = this.next();
      if (job) {
        worker.postMessage(job);
      }
    });
    worker.onerror = this.owner.guard((event: ErrorEvent) => {
      event.preventDefault();
      worker.terminate();
      const at = this.workers.indexOf(worker);
      if (at >= 0) {
        this.workers.splice(at, 1);
      }
      if (this.workers.length === 0) {
        this.useOwnThread();
      }
    });
    return true;
  }

  private useOwnThread(): void {
    if (!this.ownThread) {
      this.ownThread = true;
      this.solveHere();
    }
  }

  private solveHere(): void {
    const job = this.next();
    if (!job) {
      return;
    }
    this.owner.solver.solve(
      job,
      () => !this.over && !this.payloads[job.puzzle],
      this.owner.guard((payload: Uint8Array | null) => {
        this.take(job.puzzle, payload);
        this.solveHere();
      }),
      this.owner.failed,
    );
  }

  /**
   * The next job: the unsolved puzzle that was handed out the fewest times. Towards the
   * end that is one which another thread has, so that a slow or stuck thread holds up nothing.
   */
  private next(): Job | undefined {
    const left = this.end - this.owner.now();
    if (left <= 0) {
      this.finish(); // by the clock, since timers of background tabs come late
    }
    if (this.over) {
      return undefined;
    }
    let puzzle = -1;
    for (let i = 0; i < this.work.puzzles; i++) {
      if (!this.payloads[i] && (puzzle < 0 || this.attempts[i] < this.attempts[puzzle])) {
        puzzle = i;
      }
    }
    const { ticket, algorithm, bits } = this.work;
    return { ticket, algorithm, bits, puzzle, attempt: this.attempts[puzzle]++, left };
  }

  private take(puzzle: number, payload: Uint8Array | null): void {
    if (this.over || !payload || this.payloads[puzzle]) {
      return;
    }
    this.payloads[puzzle] = payload;
    this.solved++;
    if (this.solved === this.work.puzzles) {
      this.finish();
    } else {
      this.owner.progress(this.solved);
    }
  }

  private finish(): void {
    if (this.over) {
      return;
    }
    this.over = true;
    this.workers.forEach((worker) => worker.terminate());
    this.owner.finished(this.payloads, this.solved);
  }
}
