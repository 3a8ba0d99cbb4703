// Running a search in slices, so that the thread it runs on stays responsive.

import { Clock } from "./hashing";

/**
 * A search in small steps: it yields after each, with a promise where it must wait for
 * one, and ends with the payload of the solution.
 */
export type Steps = Generator<Promise<void> | undefined, Uint8Array, void>;

/** Calls a function soon, after the thread has seen to what is waiting. */
export type Later = (turn: () => void) => void;

/** Makes a Later. A message is not held back as timers are in background tabs. */
export function makeLater(): Later {
  if (typeof MessageChannel !== "function") {
    return (turn) => setTimeout(turn, 0);
  }
  const channel = new MessageChannel();
  const turns: (() => void)[] = [];
  channel.port1.onmessage = () => {
    const turn = turns.shift();
    if (turn) {
      turn();
    }
  };
  return (turn) => {
    turns.push(turn);
    channel.port2.postMessage(0);
  };
}

/** What a run of steps needs and whom it tells. */
export interface Run {
  readonly now: Clock;
  readonly later: Later;
  /** How long to work before giving way, in milliseconds; a slice is longer than this by at most a step. */
  readonly slice: number;
  /** Whether the result is still of use; asked after every step. */
  wanted(): boolean;
  /** Called once: with the payload, or with null when it was not wanted any more. */
  done(payload: Uint8Array | null): void;
  /** Called instead of done when the search or done threw. */
  failed(error: unknown): void;
}

/** Runs a search to its end, none of it before the call returns: else one solved puzzle after another would make one long slice. */
export function run(steps: Steps, options: Run): void {
  const { now, later, slice } = options;
  const turn = (): void => {
    try {
      for (const end = now() + slice; ;) {
        const step = steps.next();
        if (step.done) {
          options.done(step.value);
          return;
        }
        if (!options.wanted()) {
          options.done(null);
          return;
        }
        if (step.value) {
          step.value.then(turn, options.failed);
          return;
        }
        if (now() >= end) {
          later(turn);
          return;
        }
      }
    } catch (error) {
      options.failed(error);
    }
  };
  later(turn);
}
