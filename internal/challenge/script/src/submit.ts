// Handing in the answer over a network that may come and go.

/** What handing in needs of the page, and whom it tells. */
export interface Desk {
  /** Called when the answer was taken: the clearance is in the browser. */
  passed(): void;
  /** Called when the server has something to say: address is to be visited. */
  visit(address: string): void;
  /** Called whenever the server could not be reached. */
  offline(): void;
  /** Wraps a callback so that what it throws reaches the page. */
  guard<A extends unknown[]>(callback: (...args: A) => void): (...args: A) => void;
}

/** How long an attempt may take, in milliseconds, before another is made beside it. */
const patience = 15000;
/** How many attempts are made before the address is visited instead, which nothing but being offline prevents. */
const attempts = 5;

/**
 * Hands in an answer by fetching its address, until it is known what became of it. The
 * server takes the same answer any number of times, so attempts may overlap.
 */
export function submit(address: string, desk: Desk): void {
  if (typeof fetch !== "function") {
    desk.visit(address);
    return;
  }
  let failures = 0, over = false, waiting: ReturnType<typeof setTimeout> | undefined;

  const attempt = (): void => {
    let open = true;
    const fail = desk.guard(() => {
      if (!open || over) {
        return;
      }
      open = false;
      failures++;
      desk.offline();
      // Content blockers and policies fail a fetch too, for good: a navigation gets past them.
      if (failures >= attempts && navigator.onLine !== false) {
        over = true;
        desk.visit(address);
        return;
      }
      waiting = setTimeout(again, Math.min(1000 * Math.pow(2, failures - 1), 30000));
    });
    const slow = setTimeout(fail, patience);
    fetch(address, { redirect: "manual", credentials: "same-origin", cache: "no-store" }).then(
      desk.guard((response: Response) => {
        clearTimeout(slow);
        if (over) {
          return;
        }
        over = true;
        clearTimeout(waiting);
        if (response.type === "opaqueredirect") {
          desk.passed();
        } else {
          desk.visit(address);
        }
      }),
      () => {
        clearTimeout(slow);
        fail();
      },
    );
  };
  const again = desk.guard(() => {
    clearTimeout(waiting);
    waiting = undefined;
    attempt();
  });

  addEventListener("online", () => {
    if (waiting !== undefined && !over) {
      again();
    }
  });
  attempt();
}
