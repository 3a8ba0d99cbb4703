// The challenge page's script: does the work that the page asks for, hands in the answer
// and goes on to what the reader wanted.
//
// The rule that must never break: every way through here ends in a navigation. Whatever
// throws, is blocked or is missing leads to the fallback, which needs no JavaScript.

import { encodeAnswer } from "./answer";
import { Page } from "./page";
import { Pool } from "./pool";
import { findDigester, Solver } from "./solve";
import { submit } from "./submit";

/** Keeps the page's own thread responsive: with a step's surplus, slices stay below 30 ms. */
const slice = 20;
/** How long the sentence about a failure can be read, in milliseconds. */
const readingTime = 2000;

function start(page: Page): void {
  let failing = false, passed = false;

  const failed = (): void => {
    if (!failing) {
      failing = true;
      page.say("Failed");
      setTimeout(() => location.replace(page.fallback), readingTime);
    }
  };
  const guard = <A extends unknown[]>(callback: (...args: A) => void) => (...args: A): void => {
    try {
      callback(...args);
    } catch (error) {
      failed();
    }
  };

  addEventListener("pageshow", (event) => {
    if (event.persisted) { // the reader came back: show what they wanted, or begin afresh
      if (passed) {
        goOn(page);
      } else {
        location.reload();
      }
    }
  });
  if (page.kind !== "work") {
    return;
  }

  guard(() => {
    const work = page.work(navigator.hardwareConcurrency), least = page.least;
    const now = (): number => performance.now();
    page.say("Working");
    page.progress(0);
    new Pool(work, {
      now,
      solver: new Solver(now, findDigester(), slice),
      guard,
      failed,
      progress(solved) {
        page.progress(100 * solved / work.puzzles);
        if (4 * solved >= 3 * work.puzzles) {
          page.say("Almost");
        }
      },
      finished(payloads, solved) {
        if (failing) {
          return;
        }
        if (solved < least) {
          page.say("Failed");
          location.replace(page.fallback);
          return;
        }
        page.say("Almost");
        page.progress(100);
        const address = page.passAddress(encodeAnswer(payloads));
        submit(address, {
          guard,
          passed() {
            passed = true;
            goOn(page, address);
          },
          visit(to) {
            location.replace(to);
          },
          offline() {
            page.say("Offline");
          },
        });
      },
    }).start();
  })();
}

/**
 * Goes to what the reader wanted, with the fragment that the server has not seen. The
 * challenge stands at the very address that was asked for, and going from there to the same with a fragment
 * would only scroll: so the page first takes the pass address for its own, which leads to the same place if reloaded.
 */
function goOn(page: Page, address?: string): void {
  const fragment = page.target.indexOf("#") < 0 ? location.hash : "";
  if (fragment && address) {
    history.replaceState(null, "", address);
  }
  location.replace(page.target + fragment);
}

const main = document.getElementById("challenge");
if (main) {
  start(new Page(main.dataset));
}
