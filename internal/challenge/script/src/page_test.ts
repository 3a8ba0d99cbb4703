import { encodeAnswer } from "./answer";
import { equal, test } from "./harness_test";
import { bounded, ownPath, Page } from "./page";

test("only paths of this site are followed", () => {
  ["/", "/a", "/a//b", "/.//evil.example", "/?to=//evil.example", "/wiki/A?x=1&y=%zz", "/\u00fcber"].forEach((path) =>
    equal(ownPath(path), path));
  [undefined, "", "a", "//evil.example", "/\\evil.example", "/\t/evil.example", "\t//evil.example", "/\n\\evil.example", "/a\nb",
    "https://evil.example/", "javascript:alert(1)", " /a", "\\/evil.example"].forEach((path) => equal(ownPath(path), "", JSON.stringify(path)));
});

test("numbers have bounds", () => {
  equal(bounded("8", 8, 24), 8);
  equal(bounded("24", 8, 24), 24);
  [undefined, "", "7", "25", "8.5", "x", "-8", "NaN", "Infinity"].forEach((text) => {
    let threw = false;
    try {
      bounded(text, 8, 24);
    } catch (error) {
      threw = true;
    }
    equal(threw, true, "refusing " + text);
  });
});

test("one core is left to the reader", () => {
  const data: DOMStringMap = { algorithm: "memory", puzzles: "6", limit: "2500" };
  [[undefined, 1], [0, 1], [1, 1], [2, 1], [3, 2], [5, 4], [64, 4]].forEach(([cores, threads]) =>
    equal(new Page(data).work(cores).threads, threads, "threads for " + cores + " cores"));
});

test("addresses are complete and of this site", () => {
  const page = new Page({ pass: "/.quickthorn/pass", ticket: "a+b&c", return: "//evil", fallback: "/\\evil" });
  equal(page.passAddress("AQ"), "/.quickthorn/pass?ticket=a%2Bb%26c&answer=AQ");
  equal(page.target, "/");
  equal(page.fallback, "/.quickthorn/pass?ticket=a%2Bb%26c");
  equal(new Page({ pass: "/p?x=1" }).passAddress("AQ"), "/p?x=1&ticket=&answer=AQ");
});

test("answers hold the solved puzzles in order", () => {
  equal(encodeAnswer([]), "");
  equal(encodeAnswer([undefined, new Uint8Array([0xfb, 0xff, 0xfe, 1]), undefined, new Uint8Array([0, 0, 0, 0])]), "Afv__gEDAAAAAA");
});
