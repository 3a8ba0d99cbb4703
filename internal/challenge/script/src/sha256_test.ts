import { equal, test } from "./harness_test";
import { digest, initial, rounds } from "./sha256";

export function hex(words: Int32Array): string {
  let text = "";
  words.forEach((word) => {
    text += ("0000000" + (word >>> 0).toString(16)).slice(-8);
  });
  return text;
}

export function bytes(text: string): Uint8Array {
  return Uint8Array.from(text, (c) => c.charCodeAt(0));
}

test("digests are those of FIPS 180-4's examples", () => {
  const examples: [string, string][] = [
    ["", "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"],
    ["abc", "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"],
    ["abcdbcdecdefdefgefghfghighijhijkijkljklmklmnlmnomnopnopq", "248d6a61d20638b8e5c026930c3e6039a33ce45964ff2167f6ecedd419db06c1"],
    ["abcdefghbcdefghicdefghijdefghijkefghijklfghijklmghijklmnhijklmnoijklmnopjklmnopqklmnopqrlmnopqrsmnopqrstnopqrstu",
      "cf5b16a778af8380036ce59e7b0492370b249b11e8f07a51afac45037afee9d1"],
  ];
  examples.forEach(([message, want]) => equal(hex(digest(bytes(message))), want, "digest of " + message));
});

test("rounds may be split anywhere", () => {
  for (let split = 0; split <= 64; split++) {
    const w = new Int32Array(64), middle = new Int32Array(8), end = new Int32Array(8);
    w.set([0x61626380]); // "abc", padded
    w[15] = 24;
    rounds(w, 0, split, initial, middle);
    rounds(w, split, 64, middle, end);
    equal(hex(end.map((word, i) => word + initial[i])), "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad", "split at " + split);
  }
});
