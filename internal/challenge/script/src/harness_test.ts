// A harness for the unit tests that run in a browser: as much as they need.

/** What became of the tests: a sentence for each that failed, and how many there were. */
export const report = { ran: 0, failures: [] as string[] };

const pending: Promise<void>[] = [];

/** Runs a test, which fails by throwing or by a rejected promise. */
export function test(name: string, body: () => void | Promise<void>): void {
  report.ran++;
  pending.push(Promise.resolve().then(body).catch((error) => {
    report.failures.push(name + ": " + error);
  }));
}

/** Throws unless both have the same JSON. */
export function equal(got: unknown, want: unknown, what = "value"): void {
  const g = JSON.stringify(got), w = JSON.stringify(want);
  if (g !== w) {
    throw new Error(what + " is " + g + ", want " + w);
  }
}

/** Resolves with the report once all tests have ended. */
export function finish(): Promise<typeof report> {
  return Promise.all(pending).then(() => report);
}
