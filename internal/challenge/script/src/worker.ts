// The worker: solves one puzzle after another, as the page hands them out.

import { findDigester, Job, Result, Solver } from "./solve";

/** The part of a dedicated worker's global scope that is used. */
interface Scope {
  onmessage: ((event: MessageEvent) => void) | null;
  postMessage(message: Result | null): void;
}

const scope = self as unknown as Scope;
const solver = new Solver(() => performance.now(), findDigester(), 100);

scope.onmessage = (event) => {
  const job = event.data as Job;
  solver.solve(
    job,
    () => true,
    (payload) => scope.postMessage({ puzzle: job.puzzle, payload }),
    (error) => setTimeout(() => { // as an uncaught error, it reaches the page's error event
      throw error;
    }, 0),
  );
};
scope.postMessage(null);
