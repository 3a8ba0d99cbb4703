// The challenge page as the server wrote it: its attributes, its few elements, and the ways off it.

import { Work } from "./pool";

/** Everything that may be missing from the page is "" or does nothing. */
export class Page {
  private shown = -5;

  constructor(private readonly data: DOMStringMap) {}

  get kind(): string {
    return this.data.kind || "";
  }

  get least(): number {
    return bounded(this.data.least, 1, 64);
  }

  /** The work that the page asks for. Nonsense throws: the server decides how hard it is, not a default. */
  work(cores: number | undefined): Work {
    const { ticket, algorithm, puzzles, bits, limit, worker } = this.data;
    return {
      ticket: ticket || "",
      algorithm: algorithm || "",
      puzzles: bounded(puzzles, 1, 64),
      bits: algorithm === "sha256" ? bounded(bits, 8, 24) : 0,
      limit: bounded(limit, 1, 60000),
      worker: ownPath(worker),
      threads: Math.min(Math.max((cores || 1) - 1, 1), 4), // one core stays for the reader
    };
  }

  /** The address to which an answer is handed in; without one, the address that explains what is missing. */
  passAddress(answer: string): string {
    const pass = ownPath(this.data.pass) || "/";
    return pass + (pass.indexOf("?") < 0 ? "?" : "&") + "ticket=" + encodeURIComponent(this.data.ticket || "") +
      (answer && "&answer=" + answer);
  }

  /** The way of those without JavaScript. */
  get fallback(): string {
    return ownPath(this.data.fallback) || this.passAddress("");
  }

  /** Where the reader wanted to go. */
  get target(): string {
    return ownPath(this.data.return) || "/";
  }

  /** Shows one of the page's sentences: a screen reader reads each out, so there are few. */
  say(which: "Working" | "Almost" | "Offline" | "Failed"): void {
    const status = document.getElementById("status"), text = this.data["text" + which];
    if (status && text && status.textContent !== text) {
      status.textContent = text;
    }
  }

  /** Shows how much is done, in percent; in steps, because screen readers may read these out too. */
  progress(percent: number): void {
    const bar = document.getElementById("progress") as HTMLProgressElement | null;
    if (bar && percent - this.shown >= 5) {
      this.shown = percent;
      bar.hidden = false;
      bar.value = percent;
    }
  }
}

/**
 * Returns a path on this site, or "" for whatever a browser could take for more than
 * that: "//host", "/\host", and the same with a control character between, which it would drop.
 */
export function ownPath(path: string | undefined): string {
  return path && /^\/(?![/\\])[^\x00-\x1f]*$/.test(path) ? path : "";
}

/** Reads a whole number of from..to, or throws. */
export function bounded(text: string | undefined, from: number, to: number): number {
  const n = text ? Number(text) : NaN;
  if (!(n >= from && n <= to) || n % 1 !== 0) {
    throw new Error("not within " + from + ".." + to + ": " + text);
  }
  return n;
}
